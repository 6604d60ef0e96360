//! Metrics as pure functions over plain floats; no tensor and no file in here.
//!
//! Every tie is broken the same way: the lower index wins.

pub mod caption;
pub mod choice;
pub mod classification;
pub mod retrieval;
pub mod scores;
