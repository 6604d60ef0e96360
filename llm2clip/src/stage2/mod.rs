//! Stage 2: a vision tower and a text adapter are trained against stored vectors of captions. The language model is not
//! in memory, unless something is validated.

mod method;
mod prepare;
mod task;

pub use method::{AdapterOptions, Name, Options, train};
pub use prepare::{FieldWeight, ImageVectorBatch, ImagesAndVectors};
pub use task::Align;
