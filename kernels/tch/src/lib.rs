//! Fast paths of layers on burn's backend LibTorch: LibTorch's own fused calls, where burn makes several.
//!
//! `register` puts them in force; nothing else is to be called. They take f32 and bf16, on the CPU and on CUDA, and keep sums in
//! f32 for both.
//!
//! | kernel | forward | backward |
//! |---|---|---|
//! | layer norm | `native_layer_norm` | `native_layer_norm_backward` |
//! | GELU, its tanh form | `gelu` | `gelu_backward` |
//! | QuickGELU, SwiGLU | `silu` | `silu_backward` |
//! | attention, packed or grouped | `scaled_dot_product_attention` | LibTorch's own; with a mask by products |
//! | linear layer | `addmm` | products |
//! | RMS norm, rotary positions | few passes | few passes |
//! | AdamW | `_fused_adamw_` | – |
//!
//! Everything is behind the feature `tch`.

#[cfg(feature = "tch")]
mod libtorch;

#[cfg(feature = "tch")]
pub use libtorch::{LibTorchKernels, register};
