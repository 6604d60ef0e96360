//! Parity with the reference implementation on tiny models, on two CPU backends.
//!
//! Reference: `tests/reference/towers.py` (open_clip 3.3, float32, CPU).

mod fixture;
mod llm;
mod towers;
mod training;
