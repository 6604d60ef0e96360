//! Images with their texts: what CLIP and its kin have in common beyond the engine.

pub mod clip;
pub mod contrastive;
pub mod data_table;
pub mod model_table;
pub mod pairs;
pub mod towers;
pub mod validation;

pub use contrastive::{Contrastive, ContrastiveLoss, ImageTextBatch, WithLoss};
pub use data_table::{DataTable, SourceConfig};
pub use model_table::{ModelTable, train_clip, train_dual_encoder};
pub use pairs::{Pairs, TextChoice};
