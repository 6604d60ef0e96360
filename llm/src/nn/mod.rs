//! Layers of the decoder. Weights are `[out, in]` as in the checkpoints; see [`clip::nn`].

mod attention;
mod cache;
mod layer;
mod norm;
mod rope;

pub use attention::Attention;
pub use cache::{Cache, LayerCache};
pub use layer::{Layer, Mlp};
pub use norm::RmsNorm;
pub use rope::{Rope, Rotation};

use burn::prelude::*;
use clip::nn::Linear;
use clip::nn::init::Init;

/// A linear layer without bias, initially normal with deviation 0.02 as in transformers.
pub(crate) fn projection<B: Backend>(
    inputs: usize,
    outputs: usize,
    init: &mut Init,
    device: &Device<B>,
) -> Linear<B> {
    Linear {
        weight: init.normal([outputs, inputs], 0.02, device),
        bias: None,
    }
}
