//! Evaluation of dual encoders: zero-shot classification, retrieval, linear probe, compositional choice.
//!
//! * [`tasks`] and [`probe`]: a [`DualEncoder`] and a data set in, metrics and details out
//! * [`datasets`]: the layouts that people have on disk; [`prompts`]: class names and templates
//! * [`metrics`]: pure functions over plain floats
//! * [`extract`], [`embedded`], [`parts`]: embeddings of many items, and their file, in one go or in shares; a folder of files
//!   for more than fit into memory
//! * [`results`], [`grid`], [`report`]: one JSON per run, many runs, one page about them
//! * [`search`]: an index of images on disk, and what in it is nearest to a query
//!
//! # Against CLIP_benchmark
//!
//! The same embeddings give the same numbers as LAION's CLIP_benchmark 1.6 to 1e-6 (`tests/clip_benchmark.rs`). Where
//! it leaves something to chance or loses it, this crate does not follow:
//!
//! * Exact ties go to the lower index; there, `torch.topk` decides by device.
//! * Scores are f32. There, autocast makes them f16 or bf16 by default, where ties are frequent; compare with
//!   `--no_amp`.
//! * A metric that is not defined is `null`; there it is `NaN`, which is no JSON.
//! * `acc5` of a probe exists from 5 classes on; there from 6.
//! * Too few images for the asked shots are an error; there the metrics are empty.
//! * The feature cache knows weights, architecture, precision, preprocessing and images; there only names, so that it
//!   can be stale.
//! * Captions of a webdataset that hold an escaped line break are unescaped; there the two characters stay.
//! * Random choices of a probe depend on `--seed` alone and are other choices than PyTorch's.

pub mod classifier;
pub mod datasets;
pub mod embedded;
pub mod encoder;
pub mod error;
pub mod extract;
pub mod features;
mod files;
pub mod grid;
pub mod identity;
pub mod images;
pub mod metrics;
pub mod parts;
pub mod probe;
pub mod prompts;
pub mod provenance;
pub mod published;
pub mod report;
pub mod results;
pub mod search;
pub mod tasks;

pub use encoder::{DualEncoder, TextEncoder};
pub use error::{EvalError, Result};
pub use extract::Extraction;
pub use features::Features;
pub use results::RunResult;
