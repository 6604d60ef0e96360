//! Crate eval.
