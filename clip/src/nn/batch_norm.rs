use super::init::Init;
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;

/// PyTorch's default.
const EPS: f64 = 1e-5;

/// Batch norm (Ioffe & Szegedy, 2015) with the statistics of its checkpoint; a part of the [`super::Conv`] before it.
///
/// Inference in PyTorch, and training with frozen statistics (open_clip's `--lock-image-freeze-bn-stats`): mean and
/// variance are constants, gain and offset are trained. Statistics of the batch are not taken: they would tie the rows
/// of a batch to each other, and with them a step to the way in which it is cut into micro-batches and replayed.
#[derive(Module, Debug)]
pub struct BatchNorm<B: Backend> {
    /// Gain, `[channels]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Offset, `[channels]`.
    pub bias: Param<Tensor<B, 1>>,
    /// Mean of every channel, `[channels]`; takes no gradient.
    pub running_mean: Param<Tensor<B, 1>>,
    /// Variance of every channel, `[channels]`; takes no gradient.
    pub running_var: Param<Tensor<B, 1>>,
}

impl<B: Backend> BatchNorm<B> {
    /// The identity but for the epsilon: unit gain and variance, zero offset and mean.
    pub fn new(channels: usize, init: &Init, device: &Device<B>) -> Self {
        let constant = |value: f32| init.constant([channels], value, device);
        Self {
            weight: constant(1.0),
            bias: constant(0.0),
            running_mean: constant(0.0).set_require_grad(false),
            running_var: constant(1.0).set_require_grad(false),
        }
    }

    /// The norm as `scale · x + shift`, per channel.
    ///
    /// # Shapes
    ///
    /// - output: `[channels]` each, f32
    pub fn scale_and_shift(&self) -> [Tensor<B, 1>; 2] {
        let [weight, bias, mean, variance] = [
            &self.weight,
            &self.bias,
            &self.running_mean,
            &self.running_var,
        ]
        .map(|param| param.val().cast(DType::F32));
        let scale = weight / (variance + EPS).sqrt();
        let shift = bias - mean * scale.clone();
        [scale, shift]
    }
}
