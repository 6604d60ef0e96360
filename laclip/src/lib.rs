//! LaCLIP: CLIP with rewritten captions (Fan et al., 2023, arXiv 2305.20088).
//!
//! * [`rewrite`]: every caption of a file, said in other words by a language model that sees three examples

mod error;

pub mod rewrite;

pub use error::{Error, Result};
