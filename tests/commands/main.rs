//! The commands as a user runs them, checkpoints as Python writes them, and input that is wrong.
//!
//! Runs the binaries of the examples, which `cargo test` builds; `cargo test --test commands` alone does not, so
//! `cargo build --examples` comes before it.
//!
//! Reference: `tests/reference/commands_pickles.py` (open_clip 3.3, timm, transformers, float32, CPU).

mod bad_arguments;
mod bad_images;
mod bad_models;
mod checkpoints;
mod classify;
mod clips;
mod command;
mod convert;
mod documents;
mod embed;
mod eval;
mod features;
mod laclip;
mod llm2clip;
mod python;
mod rewrite;
mod scenes;
mod search;
mod shards;
mod spellings;
mod train;
