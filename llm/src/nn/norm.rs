use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;
use clip::nn::init::Init;

/// Division by the root mean square over the last axis, in f32, then a gain in the dtype of the input.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// Gain, `[width]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// Unit gain.
    pub fn new(width: usize, eps: f64, init: &Init, device: &Device<B>) -> Self {
        Self {
            weight: init.constant([width], 1.0, device),
            eps,
        }
    }

    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - output: same shape and dtype as `x`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let dtype = x.dtype();
        if let Some(y) = kernels::rms_norm(&x, &self.weight.val(), self.eps) {
            return y;
        }
        let x = x.cast(DType::F32);
        let square = x.clone().square().mean_dim(2);
        let normed = (x / (square + self.eps).sqrt()).cast(dtype);
        normed * self.weight.val().cast(dtype).unsqueeze()
    }
}
