//! LLM2CLIP (Huang et al., 2024, arXiv 2411.04997): a language model as the text teacher of a CLIP vision tower.
//!
//! * [`stage1`]: a language model learns to tell captions apart: language modelling from scratch, masked next-token
//!   prediction, and caption-contrastive tuning of LoRA
//! * [`extract`]: its vectors of all captions, stored once
//! * [`stage2`]: a vision tower and an [`Adapter`] of the stored vectors are trained against each other
//! * [`Llm2Clip`]: what comes out: vision tower, adapter, and a language model or a store for texts
//!
//! Marks in comments, as in the sources that were read: "released" for what the code or the files of the release say,
//! "inferred" for what nobody saw.

mod adapter;
mod caption_encoder;
mod checkpoint;
mod encoder;
mod error;
pub mod extract;
mod identity;
pub mod loss;
mod network;
mod released;
pub mod stage1;
pub mod stage2;
mod teacher;

pub use adapter::{Adapter, AdapterBlock, AdapterConfig};
pub use caption_encoder::CaptionEncoder;
pub use checkpoint::{DESCRIPTION, Llm2ClipOptions, is_llm2clip};
pub use encoder::Llm2Clip;
pub use error::{Error, Result};
pub use identity::identity;
pub use network::{Network, NetworkConfig};
pub use stage2::{Options, train};
pub use teacher::{Teacher, TextSide};

/// Recipes as they lie in `recipes/`, for programs that bring them along.
pub mod recipes {
    /// `stage1_scenes.toml`: a small language model on the captions of the built-in world, and its tuning.
    pub const STAGE1_SCENES: &str = include_str!("../recipes/stage1_scenes.toml");
    /// `stage2_scenes.toml`: the vision tower on the built-in world.
    pub const STAGE2_SCENES: &str = include_str!("../recipes/stage2_scenes.toml");
}
