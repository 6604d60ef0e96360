//! Stage 1: a language model learns to tell captions apart.
//!
//! Three kinds of training, each a table of one recipe file ([`Plan`]), alone or one after another:
//!
//! * `lm`: a small Llama from scratch, next tokens of packed lines
//! * `mntp`: masked next-token prediction with both directions visible, LoRA only
//! * `contrastive`: captions of one image find each other, LoRA only

mod blocks;
mod captions;
mod contrastive;
mod data;
mod encoded;
mod plan;
mod predict;
mod rate;
mod run;
mod tables;
mod triplets;
mod tuned;

pub use blocks::{Block, Blocks};
pub use captions::{CaptionPairs, CaptionTable, CapturedCaptions, CsvCaptions};
pub use contrastive::{Contrast, ContrastiveOptions, TripletBatch, TripletRows};
pub use data::{TextSource, TextTable};
pub use encoded::join_rows;
pub use plan::Plan;
pub use predict::{BlockBatch, LmOptions, MntpOptions, Objective, Predict, PredictionRows};
pub use rate::CaptionSet;
pub use run::{STAGES, Stage, Summary};
pub use tables::{LlmTable, LmTable};
pub use triplets::{JsonTriplets, Triplet};
pub use tuned::{TunedEncoder, TunedLlama, WholeLlama};
