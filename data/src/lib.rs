//! Images and captions on disk, read as batches in host memory. No tensor in here.
//!
//! A [`Source`] gives [`Sample`]s by index: [`webdataset`] shards, [`csv`] tables (with LaCLIP's
//! rewrites), [`jsonl`] annotations, image [`folder`]s, [`parquet`] files. Samples may be of another
//! type: the lines of [`text`] files are one. A [`Sampler`] decides their order as a pure
//! function of (seed, epoch, position), and a [`Loader`] reads, decodes and collates them on
//! threads of its own.

mod captions;
pub mod csv;
mod embeddings;
mod error;
pub mod fetch;
pub mod folder;
mod image_file;
pub mod jsonl;
mod lines;
mod loader;
pub mod npy;
pub mod parquet;
mod permutation;
mod problem;
mod report;
mod sample;
mod sampler;
pub mod scenes;
mod source;
pub mod store;
pub mod strings;
pub mod text;
pub mod webdataset;

pub use captions::CaptionField;
pub use embeddings::StoredEmbeddings;
pub use error::{DataError, Place};
pub use image_file::{MAX_IMAGE_BYTES, read_image};
pub use loader::{CollateError, Loader, LoaderOptions, LoaderReport, Skipped};
pub use permutation::Permutation;
pub use problem::{Problem, Problems};
pub use report::{CaptionCounts, Dropped, SourceReport, Tally};
pub use sample::{CaptionKind, CaptionMix, Captions, Sample};
pub use sampler::{Draw, Order, Sampler};
pub use source::{Keyed, Mixture, Source, Subset};
