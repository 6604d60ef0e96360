use super::{Dropout, Lora};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;
use clip::nn::init::Init;
use clip::nn::linear;

/// A linear layer without bias that may carry a low-rank change.
#[derive(Module, Debug)]
pub struct Projection<B: Backend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// Added to what the weight gives.
    pub lora: Option<Lora<B>>,
}

impl<B: Backend> Projection<B> {
    /// Initially normal with deviation 0.02, as in transformers.
    pub fn new(inputs: usize, outputs: usize, init: &mut Init, device: &Device<B>) -> Self {
        Self {
            weight: init.normal([outputs, inputs], 0.02, device),
            lora: None,
        }
    }

    /// # Shapes
    ///
    /// - x: `[batch, seq, in]`
    /// - output: `[batch, seq, out]`, in the dtype of `x`
    pub fn forward(&self, x: Tensor<B, 3>, dropout: Option<&Dropout>) -> Tensor<B, 3> {
        let Some(lora) = &self.lora else {
            return linear(x, self.weight.val(), None);
        };
        let dtype = x.dtype();
        let base = linear(x.clone(), self.weight.val(), None);
        (base.cast(DType::F32) + lora.forward(x, dropout)).cast(dtype)
    }

    /// The same layer with its low-rank change added to the weight, in the dtype of the weight.
    pub fn merge(self) -> Self {
        let Some(lora) = self.lora else {
            return self;
        };
        let (id, weight, _) = self.weight.consume();
        let (dtype, tracked) = (weight.dtype(), weight.is_require_grad());
        // `detach` would keep the mark of a leaf.
        let merged = weight.set_require_grad(false).cast(DType::F32) + lora.change().detach();
        let merged = merged.cast(dtype).set_require_grad(tracked);
        Self {
            weight: Param::initialized(id, merged),
            lora: None,
        }
    }
}
