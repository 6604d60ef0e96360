//! CLIPS: CLIP with partial synthetic captions and a captioner (Liu et al., 2024, arXiv 2411.16828).
//!
//! * [`sentences`] and [`reduce`]: which tokens of a synthetic caption the contrastive loss sees
//! * [`texts`]: the texts of an image, and what the captioner shall say
//! * [`captioner`]: image and web caption in, full synthetic caption out
//! * [`model`]: both in one directory
//! * [`task`]: how a batch is embedded, and its losses
//!
//! The authors' repository holds the encoders only; what is not in it follows OpenVision, their later code.

mod error;
mod method;

pub mod captioner;
pub mod model;
pub mod reduce;
pub mod sentences;
pub mod task;
pub mod texts;

pub use captioner::{Captioner, CaptionerConfig, CaptionerOptions, Decoder};
pub use error::{Error, Result};
pub use method::{Options, train};
pub use model::{Clips, ClipsModel};
pub use reduce::{Reduction, Strategy};
pub use sentences::Splitting;
pub use task::ClipsTask;
pub use texts::{Caption, ClipsBatch, Texts};

/// Recipes as they lie in `recipes/`, for programs that bring them along.
pub mod recipes {
    /// `scenes.toml`: on the built-in captioned world. It names the vocabulary as `scenes_vocab.txt` beside it.
    pub const SCENES: &str = include_str!("../recipes/scenes.toml");
    /// `scenes_vocab.txt`: the WordPieces of that world.
    pub const SCENES_VOCABULARY: &str = include_str!("../recipes/scenes_vocab.txt");
}
