//! Crate data.
