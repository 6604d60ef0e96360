use super::BatchNorm;
use super::init::Init;
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;
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

    /// The convolution and the norm behind it. As the norm's statistics are constants, it is a factor on the weight and a
    /// bias, and takes no walk over the pixels of its own.
    ///
    /// Zeros around the image keep the size of the output at `ceil(size / stride)` for odd kernels.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in, height, width]`
    /// - norm: of `out` channels
    /// - output: `[batch, out, ceil(height / stride), ceil(width / stride)]`, in the dtype of `x`
    pub fn forward(&self, x: Tensor<B, 4>, norm: &BatchNorm<B>) -> Tensor<B, 4> {
        let dtype = x.dtype();
        let weight = self.weight.val().cast(DType::F32);
        let [outputs, _, _, kernel] = weight.dims();
        let [scale, shift] = norm.scale_and_shift();
        let weight = weight * scale.reshape([outputs, 1, 1, 1]);
        let options = ConvOptions::new([self.stride; 2], [kernel / 2; 2], [1; 2], 1);
        conv2d(x, weight.cast(dtype), Some(shift.cast(dtype)), options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    /// Of ones with ones, an output counts the pixels that the kernel sees; the norm halves the count and adds 3.
    #[test]
    fn zeros_surround_the_image_and_a_stride_halves_it() {
        let device = Default::default();
        let counted = |side: usize, stride: usize| {
            let conv = Conv::<Flex> {
                weight: Param::from_tensor(Tensor::ones([1, 1, 3, 3], &device)),
                stride,
            };
            let constant = |value: f32| Param::from_tensor(Tensor::from_data([value], &device));
            let norm = BatchNorm {
                weight: constant(2.0),
                bias: constant(4.0),
                running_mean: constant(2.0),
                running_var: constant(16.0 - 1e-5),
            };
            let y = conv.forward(Tensor::ones([1, 1, side, side], &device), &norm);
            let y: Vec<f32> = y.into_data().into_vec().unwrap();
            y.iter().map(|y| (y - 3.0) * 2.0).collect::<Vec<_>>()
        };
        assert_eq!(counted(3, 1), [4., 6., 4., 6., 9., 6., 4., 6., 4.]);
        assert_eq!(counted(4, 2), [4., 6., 6., 9.]);
        assert_eq!(counted(3, 2), [4.; 4]);
    }
}
