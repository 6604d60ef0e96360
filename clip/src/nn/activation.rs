use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::{gelu, gelu_approximate, sigmoid};
use serde::{Deserialize, Serialize};
use std::f64::consts::SQRT_2;

/// Nonlinearity of an MLP. A checkpoint works only with the one that it was trained with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x · Φ(x)` with the exact error function.
    #[default]
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`, as in OpenAI's checkpoints.
    QuickGelu,
}

impl Activation {
    /// What kernels call it.
    pub(super) fn kind(&self) -> kernels::Activation {
        match self {
            Self::Gelu => kernels::Activation::Gelu,
            Self::GeluTanh => kernels::Activation::GeluTanh,
            Self::QuickGelu => kernels::Activation::QuickGelu,
        }
    }

    /// Applies the activation to every element.
    pub fn forward<B: Backend, const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        if let Some(y) = kernels::activation(self.kind(), &x) {
            return y;
        }
        match self {
            // Some backends differentiate `gelu` as if it were the tanh form, so a tracked one is spelled out.
            Self::Gelu if B::ad_enabled(&x.device()) => {
                // In f32: far on the negative side `erf + 1` is all rounding in bf16.
                let (dtype, x) = (x.dtype(), x.cast(DType::F32));
                (x.clone() * ((x / SQRT_2).erf() + 1.0) * 0.5).cast(dtype)
            }
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_approximate(x),
            Self::QuickGelu => {
                // In f32: 1.702 is not a bf16 number, and rounding at every step doubles the error of the gradients.
                let (dtype, x) = (x.dtype(), x.cast(DType::F32));
                (x.clone() * sigmoid(x * 1.702)).cast(dtype)
            }
        }
    }
}
