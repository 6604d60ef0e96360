//! Layers of the towers.
//!
//! Parameters have the names, shapes and layouts of the reference state dict: a linear weight is `[out, in]`
//! and is used through a transposed view, so reading and writing a checkpoint moves no data and an optimizer
//! moment compares entry by entry with PyTorch's.
//!
//! Layers compute in the dtype of their input and cast their parameters to it; statistics and softmax are
//! always taken in f32. A tower therefore chooses its precision once, where it makes the first activation.

mod activation;
mod add_row;
mod attention;
mod attention_pool;
mod attention_pool_2d;
mod batch_norm;
mod block;
mod conv;
pub mod init;
mod linear;
mod lookup;
mod mlp;
mod norm;
mod patch_embed;
mod position;
mod rope_2d;

pub use activation::Activation;
pub use add_row::add_row;
pub use attention::{Attention, sdpa};
pub use attention_pool::AttentionPool;
pub use attention_pool_2d::AttentionPool2d;
pub(crate) use attention_pool_2d::projection;
pub use batch_norm::BatchNorm;
pub use block::{
    Block, BlockConfig, BlockInit, LayerScale, MASKED, Transformer, TransformerConfig,
};
pub use conv::Conv;
pub use init::TowerInit;
pub use linear::{Linear, linear};
pub use lookup::lookup;
pub use mlp::Mlp;
pub use norm::{LayerNorm, l2_normalize};
pub use patch_embed::{PatchDropout, PatchEmbed};
pub(crate) use position::moco_table;
pub use position::{sin_cos_2d, sin_cos_2d_moco};
pub use rope_2d::{Rope, RopeConfig};
