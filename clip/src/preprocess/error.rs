//! What can go wrong between a file and a batch of pixels.

use files::MAX_IMAGE_BYTES;
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
    /// A decoder met what its authors did not expect.
    #[error("the {format} decoder failed ({what}); convert the image or drop it from the list")]
    Panicked {
        /// Name of the image format.
        format: &'static str,
        /// What the decoder said.
        what: String,
    },
    /// A frame does not fit the image that it is a part of; nothing was allocated for it.
    #[error(
        "a frame of {}x{} on a canvas of {}x{}; fetch the file again or drop it from the list",
        frame[0], frame[1], canvas[0], canvas[1]
    )]
    BeyondCanvas {
        /// Width and height of the frame in pixels.
        frame: [u32; 2],
        /// Width and height of the image in pixels.
        canvas: [u32; 2],
    },
    /// The file is longer than any image that may be decoded; it was not read.
    #[error(
        "{bytes} bytes, over the limit of {MAX_IMAGE_BYTES}; convert it or drop it from the list"
    )]
    TooLong {
        /// Length of the file.
        bytes: u64,
    },
    /// An image without a row or a column.
    #[error(
        "the {format} image is {width}x{height}, which holds nothing; fetch the file again or drop it from the list"
    )]
    NoPixels {
        /// Name of the image format.
        format: &'static str,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
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
