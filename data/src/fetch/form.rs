//! What the files are that are fetched, and whether one came whole.

use std::fmt;
use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

use crate::webdataset::scan;

/// Bytes of a message that say what came instead.
const SHOWN: u64 = 80;

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Tar archives.
    Tar,
    /// Parquet files.
    Parquet,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::Parquet => "parquet",
        })
    }
}

impl Form {
    /// How its names end, and with what is packed into them.
    pub fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Tar => &[".tar", ".tgz"],
            Self::Parquet => &[".parquet"],
        }
    }

    /// What is wrong with a file that came: it is of no such form at all, such as the page of a server that asks for a password, or it
    /// is cut, which not every way here tells. It would be kept.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn fault(self, file: &File, length: u64) -> Result<Option<String>> {
        if length == 0 {
            return Ok(Some("nothing came".into()));
        }
        let (of_form, whole) = match self {
            Self::Tar => {
                let contents = scan(file, length)?;
                let end = part(file, length.saturating_sub(512), 512)?;
                (
                    !contents.members.is_empty() || contents.damage.is_empty(),
                    end.iter().all(|byte| *byte == 0),
                )
            }
            Self::Parquet => {
                let mark = b"PAR1";
                let end = part(file, length.saturating_sub(4), 4)?;
                (
                    part(file, 0, 4)? == mark,
                    length >= 12 && end == mark, // two marks and the length of what stands before the second
                )
            }
        };
        let bytes = format!("its {length} bytes");
        Ok(match (of_form, whole) {
            (false, _) => {
                let begin = part(file, 0, SHOWN)?;
                let begin = String::from_utf8_lossy(&begin);
                Some(format!(
                    "what came is no {self} file; {bytes} begin with {begin:?}"
                ))
            }
            (true, false) => Some(format!(
                "what came is cut off: {bytes} have no end mark; is the file whole where it lies?"
            )),
            (true, true) => None,
        })
    }
}

/// Some bytes of a file, fewer at its end.
fn part(mut file: &File, start: u64, count: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}
