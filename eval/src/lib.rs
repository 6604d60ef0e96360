//! Evaluation of dual encoders: zero-shot classification, retrieval, linear probe, compositional choice.
//!
//! Numbers follow LAION's CLIP_benchmark; where it leaves chance (ties) or writes invalid JSON (NaN), this crate does
//! not. [`metrics`] are pure functions over plain floats.

pub mod classifier;
pub mod datasets;
pub mod encoder;
pub mod error;
pub mod extract;
pub mod features;
mod files;
pub mod grid;
pub mod images;
pub mod metrics;
pub mod probe;
pub mod prompts;
pub mod published;
pub mod report;
pub mod results;
pub mod tasks;

pub use encoder::DualEncoder;
pub use error::{EvalError, Result};
pub use extract::Extraction;
pub use features::Features;
pub use results::RunResult;
