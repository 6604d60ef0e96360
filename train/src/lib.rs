//! Training: an engine for any burn module, and what images with texts need on top of it.
//!
//! A method is a [`Task`]: how a batch is embedded and what the loss of the embeddings is. The engine brings the rest:
//! parameter groups, schedule, gradient cache, block replay, several replicas, checkpoints that continue bit for bit,
//! and logs.
//!
//! * [`trainer`]: one step, and a whole run
//! * [`parameters`], [`optimizer`], [`checkpoint`], [`feed`], [`logs`], [`recipe`]: what it is made of
//! * [`image_text`]: CLIP's own parts, and plain CLIP as a method

pub mod checkpoint;
pub mod error;
pub mod fault;
pub mod feed;
pub mod image_text;
pub mod logs;
pub mod optimizer;
pub mod parameters;
pub mod recipe;
pub mod trainer;

#[cfg(test)]
mod toy;

pub use error::{BoxError, Remedy, Result, TrainError};
pub use fault::{Fault, device_fault, watch_device};
pub use feed::{Batches, Place, Prepare, prepared};
pub use image_text::{
    Contrastive, DataTable, ImageTextBatch, ModelTable, SourceConfig, TextChoice, train_clip,
    train_dual_encoder,
};
pub use recipe::{Recipe, Section};
pub use trainer::step::together;
pub use trainer::task::{Embedded, Embeddings, Losses, MeanLoss, Stored, Task, Trained};
pub use trainer::{Hook, Launch, Outcome, Pass, Run, Start, StepReport, Stop, Trainer, run};
