//! Training engine for contrastive models: a flat loop, and everything around it that must be exact.
//!
//! A method is a [`Task`]: how a batch is embedded and what the loss of the embeddings is. The
//! engine brings the rest: parameter groups, schedule, gradient cache, block replay, several replicas,
//! checkpoints that continue bit for bit, and logs.

pub mod batches;
pub mod checkpoint;
pub mod collective;
pub mod contrastive;
pub mod data_table;
pub mod ema;
pub mod error;
pub mod fault;
pub mod gradients;
pub mod groups;
pub mod loaded;
pub mod logit_scale;
pub mod logs;
mod manifest;
mod meter;
pub mod optimizer;
pub mod pairs;
pub mod parameters;
mod position;
pub mod pretrained;
pub mod recipe;
pub mod replay;
pub mod report;
pub mod run;
pub mod schedule;
pub mod stable_ids;
mod state;
pub mod step;
pub mod task;
pub mod tensors;
pub mod towers;
pub mod validation;

#[cfg(test)]
mod toy;

pub use batches::Batches;
pub use contrastive::{Contrastive, ImageTextBatch};
pub use data_table::{DataTable, SourceConfig};
pub use error::{BoxError, Result, TrainError};
pub use fault::{Fault, device_fault, watch_device};
pub use pairs::TextChoice;
pub use pretrained::{ModelTable, train_clip};
pub use recipe::Recipe;
pub use run::{Outcome, Resume, Run, run};
pub use task::{Embedded, Losses, MeanLoss, Pass, Task};
