use super::init::Init;
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

/// A convolution without bias, as ResNets have them: the norm behind it has one.
#[derive(Module, Debug)]
pub struct Conv<B: Backend> {
    /// `[out, in, kernel, kernel]`.
    pub weight: Param<Tensor<B, 4>>,
    /// Pixels from one place of the kernel to the next.
    pub stride: usize,
}

impl<B: Backend> Conv<B> {
    /// PyTorch's default initialization: uniform within the inverse root of the number of inputs.
    pub fn new(
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        init: &mut Init,
        device: &Device<B>,
    ) -> Self {
        let bound = ((inputs * kernel * kernel) as f64).powf(-0.5);
        Self {
            weight: init.uniform([outputs, inputs, kernel, kernel], bound, device),
            stride,
        }
    }

    /// Zeros around the image keep the size of the output at `ceil(size / stride)` for odd kernels.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in, height, width]`
    /// - output: `[batch, out, ceil(height / stride), ceil(width / stride)]`, in the dtype of `x`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let weight = self.weight.val().cast(x.dtype());
        let padding = weight.dims()[3] / 2;
        let options = ConvOptions::new([self.stride; 2], [padding; 2], [1; 2], 1);
        conv2d(x, weight, None, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    /// Of ones with ones, an output counts the pixels that the kernel sees.
    #[test]
    fn zeros_surround_the_image_and_a_stride_halves_it() {
        let device = Default::default();
        let counted = |side: usize, stride: usize| {
            let conv = Conv::<Flex> {
                weight: Param::from_tensor(Tensor::ones([1, 1, 3, 3], &device)),
                stride,
            };
            let y = conv.forward(Tensor::ones([1, 1, side, side], &device));
            y.into_data().into_vec::<f32>().unwrap()
        };
        assert_eq!(counted(3, 1), [4., 6., 4., 6., 9., 6., 4., 6., 4.]);
        assert_eq!(counted(4, 2), [4., 6., 6., 9.]);
        assert_eq!(counted(3, 2), [4.; 4]);
    }
}
