//! Parity with the reference implementation on tiny models, on two CPU backends,
//! and on wgpu where that feature is on.
//!
//! Reference: `tests/reference/towers.py` (open_clip 3.3, float32, CPU).

mod clips;
mod closed_form;
mod fixture;
mod llm;
mod llm2clip;
mod measure;
mod replay;
mod towers;
mod training;
