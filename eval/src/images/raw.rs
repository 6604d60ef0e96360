//! Pixels without a format: the images of CIFAR, STL-10 and MNIST.

use std::path::PathBuf;
use std::sync::Arc;

use clip::preprocess::{MAX_PIXELS, RgbImage};
use serde::{Deserialize, Serialize};

use super::stretch;
use crate::error::{EvalError, Result};

/// One of many images of one size in a file of pixels, or in a compressed one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RawPixels {
    /// The file.
    pub file: PathBuf,
    /// Its number in the file, from 0.
    pub index: u64,
    /// Where its pixels begin; in a compressed file, in what it holds.
    pub offset: u64,
    /// How they lie.
    pub layout: RawLayout,
    /// What a compressed file holds, once for all its images.
    #[serde(skip)]
    pub unpacked: Option<Arc<Vec<u8>>>,
}

/// How raw pixels lie: a byte each, plane by plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RawLayout {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 3 of red, green and blue, or 1 of gray.
    pub channels: u32,
    /// Whether a plane lies column by column, else row by row.
    pub by_column: bool,
}

impl RawLayout {
    /// Bytes of an image.
    pub fn bytes(&self) -> usize {
        [self.width, self.height, self.channels]
            .into_iter()
            .map(|size| size as usize)
            .fold(1, usize::saturating_mul)
    }

    /// Whether there can be such an image: a layout may be read from a file of results.
    fn is_sound(&self) -> bool {
        [1, 3].contains(&self.channels)
            && (1..=MAX_PIXELS).contains(&(u64::from(self.width) * u64::from(self.height)))
    }
}

impl std::fmt::Debug for RawPixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.file.display(), self.index)
    }
}

impl RawPixels {
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let len = self.layout.bytes();
        let of = |bytes: &[u8]| {
            let rest = bytes.get(self.offset as usize..).unwrap_or_default();
            rest[..len.min(rest.len())].to_vec()
        };
        match &self.unpacked {
            Some(bytes) => Ok(of(bytes)),
            // Of a result that names it: the file is unpacked for this image alone.
            None if self.file.extension().is_some_and(|e| e == "gz") => {
                Ok(of(&crate::datasets::unpack(&self.file)?))
            }
            None => stretch(&self.file, self.offset, len as u64),
        }
    }

    pub(super) fn decode(&self) -> Result<RgbImage> {
        if !self.layout.is_sound() {
            let reason = format!("{:?} is the layout of no image", self.layout);
            return Err(EvalError::format(&self.file, reason));
        }
        let (bytes, layout) = (self.read()?, &self.layout);
        if bytes.len() != layout.bytes() {
            let reason = format!("image {} is cut off; get the file again", self.index);
            return Err(EvalError::format(&self.file, reason));
        }
        let plane = bytes.len() / layout.channels.max(1) as usize;
        Ok(RgbImage::from_fn(layout.width, layout.height, |x, y| {
            let place = match layout.by_column {
                true => x * layout.height + y,
                false => y * layout.width + x,
            } as usize;
            let planes = match layout.channels {
                3 => [0, plane, 2 * plane],
                _ => [0; 3],
            };
            image::Rgb(planes.map(|first| bytes[first + place]))
        }))
    }
}
