//! A dual encoder (CLIP) and all that travels with its checkpoint: towers, losses, preprocessing, tokenizers.

mod config;
mod embed;
mod error;
mod hub;
mod infer;
mod model;
mod precision;

pub mod checkpoint;
pub mod loss;
pub mod nn;
pub mod preprocess;
pub mod text;
pub mod tokenizer;
pub mod vision;

pub use checkpoint::{LoadOptions, Pretrained, PretrainedVision, VisionOptions, is_random};
pub use config::{
    ActivationArguments, ImageSize, Layers, ModelConfig, NormArguments, PositionKind,
    ProjectionType, TextConfig, TextPoolType, VisionConfig, VisionPoolType,
};
pub use error::{Error, Result};
pub use hub::local_directory;
pub use model::{Clip, ClipOutput};
pub use nn::TowerInit;
pub use precision::Precision;
pub use text::TextTower;
pub use vision::VisionTower;
