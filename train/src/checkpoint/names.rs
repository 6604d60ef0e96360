//! Names of the files of a checkpoint.

pub(super) const WEIGHTS: &str = "weights.safetensors";
pub(super) const EXPORTED: &str = "weights.json";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const EMA: &str = "ema.safetensors";
pub(super) const STATE: &str = "state.json";
pub(super) const MODEL: &str = "model";
