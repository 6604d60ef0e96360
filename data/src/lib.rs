//! Crate data.

pub mod scenes;
