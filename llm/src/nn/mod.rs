//! Layers of the decoder. Weights are `[out, in]` as in the checkpoints; see [`clip::nn`].

mod attention;
mod cache;
mod context;
mod layer;
mod lora;
mod norm;
mod projection;
mod rope;

pub use attention::Attention;
pub use cache::{Cache, LayerCache};
pub use context::Context;
pub use layer::{Layer, Mlp};
pub use lora::{Dropout, Lora};
pub use norm::RmsNorm;
pub use projection::Projection;
pub use rope::{Rope, Rotation};
