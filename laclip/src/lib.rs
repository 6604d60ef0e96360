//! LaCLIP: CLIP with rewritten captions (Fan et al., 2023, arXiv 2305.20088).
//!
//! * [`rewrite`]: every caption of a file, said in other words by a language model that sees three examples
//! * [`texts`]: one of an image's texts per visit, or all of them
//! * [`mod@multi_text`]: the loss when all texts of an image take part in a step

mod error;
mod method;

pub mod multi_text;
pub mod rewrite;
pub mod texts;

pub use error::{Error, Result};
pub use method::{Options, train};
pub use multi_text::{MultiText, multi_text};

/// Recipes as they lie in `recipes/`, for programs that bring them along.
pub mod recipes {
    /// `scenes.toml`: on the built-in captioned world.
    pub const SCENES: &str = include_str!("../recipes/scenes.toml");
}
