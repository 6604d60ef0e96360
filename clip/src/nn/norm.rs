use super::init::Init;
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::{DType, TensorPrimitive};

/// Layer norm over the last axis with statistics in f32, whatever the dtype of the input.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// Gain, `[width]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Offset, `[width]`.
    pub bias: Param<Tensor<B, 1>>,
    /// Added to the variance.
    pub eps: f64,
}

impl<B: Backend> LayerNorm<B> {
    /// Unit gain, zero offset.
    pub fn new(width: usize, eps: f64, init: &Init, device: &Device<B>) -> Self {
        Self {
            weight: init.constant([width], 1.0, device),
            bias: init.constant([width], 0.0, device),
            eps,
        }
    }

    /// # Shapes
    ///
    /// - x: `[..., width]`
    /// - output: same shape and dtype as `x`
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let dtype = x.dtype();
        let (weight, bias) = (
            self.weight.val().cast(DType::F32),
            self.bias.val().cast(DType::F32),
        );
        // Some kernels read and write other types than f32 themselves, others take f32 alone.
        if let Some(y) = kernels::layer_norm(&x, &weight, &bias, self.eps) {
            return y;
        }
        let x = x.cast(DType::F32);
        if dtype != DType::F32
            && let Some(y) = kernels::layer_norm(&x, &weight, &bias, self.eps)
        {
            return y.cast(dtype);
        }
        if !B::ad_enabled(&x.device()) {
            // Without a graph to record, backends that have one use a fused kernel.
            let [x, weight, bias] = [
                x.into_primitive().tensor(),
                weight.into_primitive().tensor(),
                bias.into_primitive().tensor(),
            ];
            let y = B::layer_norm(x, weight, Some(bias), self.eps);
            return Tensor::<B, D>::from_primitive(TensorPrimitive::Float(y)).cast(dtype);
        }
        let centred = x.clone() - x.mean_dim(D - 1);
        let variance = centred.clone().square().mean_dim(D - 1);
        let y = centred / (variance + self.eps).sqrt();
        (y * weight.unsqueeze() + bias.unsqueeze()).cast(dtype)
    }
}

/// Divides every row by its Euclidean norm, in f32. Rows shorter than 1e-12 are divided by 1e-12.
///
/// # Shapes
///
/// - x: `[n, dim]`
/// - output: `[n, dim]`, f32
pub fn l2_normalize<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let x = x.cast(DType::F32);
    let norm = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    x / norm
}
