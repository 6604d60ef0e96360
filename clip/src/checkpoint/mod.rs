//! Checkpoints: files of any naming scheme in, open_clip model directories out.

mod apply;
mod directory;
mod file;
mod hugging_face;
mod naming;
mod pickle;
mod position;
mod siglip;
mod source;
mod state_dict;
mod timm;
mod tower;

pub use apply::{ParamPath, apply, apply_as, collect};
pub use directory::Pretrained;
#[cfg(feature = "hub")]
pub(crate) use file::read_shard_index;
pub use file::{
    WeightType, read_state_dict, write_safetensors, write_safetensors_as, write_safetensors_with,
    write_whole,
};
pub use naming::{Scheme, canonical, to_open_clip};
pub(crate) use source::CONFIG;
pub use source::{LoadOptions, is_llm2clip, is_random};
#[cfg(feature = "hub")]
pub(crate) use source::{PREPROCESSOR, PROCESSOR, WEIGHT_FILES};
pub use state_dict::{HostTensor, SharedBytes, StateDict, StoredType};
pub use tower::{PretrainedVision, VisionOptions};
