//! From samples on disk to batches, in an order that is a function of one counter.

pub mod batches;
pub mod loaded;
pub mod prepare;

pub use batches::{Batches, Place};
pub use loaded::Loaded;
pub use prepare::{Prepare, prepared};
