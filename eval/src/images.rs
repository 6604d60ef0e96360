//! Where an image of a data set lies: a file, or a stretch of a tar shard.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use clip::preprocess::{RgbImage, decode};
use serde::{Deserialize, Serialize};

use crate::error::{EvalError, Result};

/// File name extensions that count as images in folders and shards.
pub const IMAGE_EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// An encoded image that can be read from any thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageRef {
    /// A file of its own.
    File(PathBuf),
    /// A member of an uncompressed tar file.
    Member {
        /// The tar file.
        shard: PathBuf,
        /// Name of the member.
        member: String,
        /// Where its bytes begin.
        offset: u64,
        /// How many there are.
        len: u64,
    },
}

impl ImageRef {
    /// The encoded bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path).map_err(EvalError::io(path)),
            Self::Member {
                shard, offset, len, ..
            } => {
                let mut bytes = Vec::new();
                File::open(shard)
                    .and_then(|mut file| {
                        file.seek(SeekFrom::Start(*offset))?;
                        file.take(*len).read_to_end(&mut bytes)
                    })
                    .map_err(EvalError::io(shard))?;
                Ok(bytes)
            }
        }
    }

    /// Number of encoded bytes; 0 for a file that is not there.
    pub fn len(&self) -> u64 {
        match self {
            Self::File(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
            Self::Member { len, .. } => *len,
        }
    }

    /// True if there is nothing to decode.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The decoded image; the error names the file.
    pub fn decode(&self) -> Result<RgbImage> {
        decode(&self.read()?).map_err(|e| EvalError::format(Path::new(&self.name()), e.to_string()))
    }

    /// The path, or `shard/member`.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Member { shard, member, .. } => format!("{}/{member}", shard.display()),
        }
    }
}

/// True if the file name ends like an image's.
pub fn is_image_name(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    IMAGE_EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}
