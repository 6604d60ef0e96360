//! Where an image of a data set lies: a file, a stretch of a tar shard, or a cell of a table.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use clip::preprocess::{RgbImage, decode};
use serde::{Deserialize, Serialize};

use crate::error::{EvalError, Result};

mod raw;
pub use raw::{RawLayout, RawPixels};

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
    /// A cell of a table, base64.
    Cell {
        /// The table.
        table: PathBuf,
        /// What the table calls the image.
        id: String,
        /// Where the cell begins.
        offset: u64,
        /// How many letters it has.
        len: u64,
    },
    /// Pixels without a format, in a file of many images of one size.
    Raw(RawPixels),
}

impl ImageRef {
    /// The encoded bytes; of raw pixels these.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => Ok(data::read_image(path)?),
            Self::Member {
                shard, offset, len, ..
            } => stretch(shard, *offset, *len),
            Self::Cell {
                table, offset, len, ..
            } => base64_decode(&stretch(table, *offset, *len)?)
                .map_err(|e| EvalError::format(Path::new(&self.name()), format!("base64: {e}"))),
            Self::Raw(raw) => raw.read(),
        }
    }

    /// The same image, found from any working directory.
    pub fn absolute(&self) -> Self {
        let mut image = self.clone();
        let path = match &mut image {
            Self::File(path) => path,
            Self::Member { shard, .. } => shard,
            Self::Cell { table, .. } => table,
            Self::Raw(raw) => &mut raw.file,
        };
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
        image
    }

    /// Number of encoded bytes; 0 for a file that is not there.
    pub fn len(&self) -> u64 {
        match self {
            Self::File(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
            Self::Member { len, .. } | Self::Cell { len, .. } => *len,
            Self::Raw(raw) => raw.layout.bytes() as u64,
        }
    }

    /// The file that holds the image.
    pub fn file(&self) -> &Path {
        match self {
            Self::File(path)
            | Self::Member { shard: path, .. }
            | Self::Cell { table: path, .. } => path,
            Self::Raw(raw) => &raw.file,
        }
    }

    /// When the file that holds the image was changed, in nanoseconds since 1970; 0 if that is not known.
    pub(crate) fn changed_ns(&self) -> u128 {
        let changed = std::fs::metadata(self.file()).and_then(|file| file.modified());
        let since = changed.map(|time| time.duration_since(std::time::UNIX_EPOCH));
        since.map_or(0, |since| since.map_or(0, |time| time.as_nanos()))
    }

    /// True if there is nothing to decode.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The decoded image; the error names the file.
    pub fn decode(&self) -> Result<RgbImage> {
        if let Self::Raw(raw) = self {
            return raw.decode();
        }
        decode(&self.read()?).map_err(|e| EvalError::format(Path::new(&self.name()), e.to_string()))
    }

    /// The path, `shard/member`, `table/id` or `file/index`.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Member { shard, member, .. } => format!("{}/{member}", shard.display()),
            Self::Cell { table, id, .. } => format!("{}/{id}", table.display()),
            Self::Raw(raw) => format!("{}/{}", raw.file.display(), raw.index),
        }
    }
}

/// Python's `urlsafe_b64decode`, with which such tables are read elsewhere, takes both alphabets and wants the padding;
/// here it may be missing.
fn base64_decode(text: &[u8]) -> std::result::Result<Vec<u8>, base64::DecodeError> {
    let standard: Vec<u8> = text
        .trim_ascii()
        .iter()
        .filter(|&&letter| letter != b'=')
        .map(|letter| match letter {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    STANDARD_NO_PAD.decode(standard)
}

/// Some bytes of a file. Where they lie may be what a file of results says, which comes from anyone.
fn stretch(path: &Path, offset: u64, len: u64) -> Result<Vec<u8>> {
    if len > ::files::MAX_IMAGE_BYTES {
        let reason = format!("{len} bytes from byte {offset} on are no image");
        return Err(EvalError::format(path, reason));
    }
    let mut bytes = Vec::new();
    ::files::regular(path)
        .and_then(|_| {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            file.take(len).read_to_end(&mut bytes)
        })
        .map_err(EvalError::io(path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_in_both_alphabets_with_and_without_padding() {
        for text in ["+/8=", "-_8=", "+/8", " -_8\n"] {
            assert_eq!(
                base64_decode(text.as_bytes()).unwrap(),
                [0xfb, 0xff],
                "{text}"
            );
        }
        assert!(base64_decode(b"no*").is_err());
    }

    #[test]
    fn what_a_result_says_of_an_image_is_not_believed() {
        let raw = |width, channels| {
            let layout = RawLayout {
                width,
                height: u32::MAX,
                channels,
                by_column: false,
            };
            ImageRef::Raw(RawPixels {
                file: "a.bin".into(),
                index: 0,
                offset: 0,
                layout,
                unpacked: None,
            })
        };
        let member = ImageRef::Member {
            shard: "/dev/zero".into(),
            member: "s.png".into(),
            offset: 0,
            len: 1 << 20,
        };
        let long = ImageRef::Member {
            shard: "a.tar".into(),
            member: "s.png".into(),
            offset: 0,
            len: u64::MAX,
        };
        for image in [raw(u32::MAX, u32::MAX), raw(1, 0), raw(0, 3), member, long] {
            assert!(image.decode().is_err(), "{image:?}");
            image.len();
        }
    }

    #[test]
    fn an_absolute_place_keeps_everything_else() {
        let member = ImageRef::Member {
            shard: "a/0.tar".into(),
            member: "s.png".into(),
            offset: 512,
            len: 3,
        };
        let ImageRef::Member { shard, offset, .. } = member.absolute() else {
            panic!()
        };
        assert!(shard.is_absolute() && shard.ends_with("a/0.tar") && offset == 512);
    }
}
