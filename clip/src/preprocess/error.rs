//! What can go wrong between a file and a batch of pixels.

use std::path::PathBuf;

/// Why an image could not be turned into pixels.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Any other error, with the file that caused it.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The image file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ImageError>,
    },
    /// The file could not be read at all.
    #[error("cannot read the file ({0}); check that it exists and that you may read it")]
    Read(#[source] std::io::Error),
    /// No bytes.
    #[error("the file is empty (0 bytes); fetch it again or drop it from the list")]
    Empty,
    /// The first bytes belong to none of the supported formats.
    #[error(
        "not a JPEG, PNG, WebP, GIF or BMP image (first bytes: {start:?}); the content decides, \
         not the file name: convert it or drop it from the list"
    )]
    UnknownFormat {
        /// The first bytes as text, with escapes.
        start: String,
    },
    /// The data stops before the image does.
    #[error("truncated {format} image; fetch the file again or drop it from the list")]
    Truncated {
        /// Name of the image format.
        format: &'static str,
    },
    /// The data contradicts its own format, or uses a part of it that is not supported.
    #[error("undecodable {format} image ({source}); convert it or drop it from the list")]
    Undecodable {
        /// Name of the image format.
        format: &'static str,
        /// The decoder's account.
        #[source]
        source: image::ImageError,
    },
    /// The image claims more pixels than allowed; nothing was allocated for it.
    #[error(
        "the image is {width}x{height}, over the limit of {max_pixels} pixels and {max_side} a \
         side; scale it down first or raise the limit"
    )]
    TooLarge {
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// Most pixels allowed.
        max_pixels: u64,
        /// Longest side allowed.
        max_side: u32,
    },
}

/// A `preprocess_cfg` or augmentation setting that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("`{field}` is {value}: expected {expected}")]
pub struct PreprocessConfigError {
    /// Name of the field as in open_clip's JSON.
    pub field: &'static str,
    /// The refused value.
    pub value: String,
    /// What would be accepted.
    pub expected: &'static str,
}
