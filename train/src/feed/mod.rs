//! From samples on disk to batches, in an order that is a function of one counter.

pub mod batches;
pub mod loaded;
pub mod place;
pub mod prepare;

pub use batches::Batches;
pub use loaded::Loaded;
pub use place::Place;
pub use prepare::{Prepare, prepared};
