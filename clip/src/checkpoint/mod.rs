//! Checkpoints: files of any naming scheme in, open_clip model directories out.

mod apply;
mod directory;
mod file;
mod hugging_face;
mod naming;
mod pickle;
mod position;
mod state_dict;

pub use apply::{ParamPath, apply, collect};
pub use directory::{LoadOptions, Pretrained};
pub use file::{read_state_dict, write_safetensors, write_whole};
pub use naming::{Scheme, canonical, to_open_clip};
pub use state_dict::{HostTensor, SharedBytes, StateDict, StoredType};
