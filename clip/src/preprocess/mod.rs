//! Images on disk → pixels as the checkpoint expects them.
//!
//! The path of an image: [`open`] or [`decode`] to RGB as PIL's `convert("RGB")` → [`Preprocess`]
//! (evaluation) or [`Augment`] (training) to `u8` of the model's size → [`PixelBatch`] →
//! normalised on the device. Resizing is bit-exact with Pillow, so embeddings agree with those
//! that Python computes from the same file.

mod augment;
mod batch;
mod budget;
mod color;
mod config;
mod decode;
mod error;
mod filter;
mod resize;
#[cfg(test)]
mod testing;
mod transform;
mod webp;

pub use augment::{Augment, AugmentConfig};
pub use batch::PixelBatch;
pub use color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale};
pub(crate) use config::MAX_SIZE;
pub use config::{
    CropRounding, IMAGENET_MEAN, IMAGENET_STD, INCEPTION_MEAN, INCEPTION_STD, OPENAI_MEAN,
    OPENAI_STD, PreprocessConfig, ResizeMode,
};
pub use decode::{MAX_BYTES, MAX_PIXELS, MAX_SIDE, decode, decode_with_limit, open};
pub use error::{ImageError, PreprocessConfigError};
pub use filter::Interpolation;
pub use image::RgbImage;
pub use resize::{resize, resize_f32};
pub use transform::Preprocess;
