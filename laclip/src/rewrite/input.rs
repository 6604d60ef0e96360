//! Lines of a caption file, one at a time.
//!
//! Only `\n` ends a line, as when the rewrites are read again. A carriage return before it belongs to the line
//! ending; a last line without an ending counts.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// What one pass over the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    pub lines: u64,
    pub bytes: u64,
    pub sha256: String,
}

/// Counts lines and makes sure that all are UTF-8, so that a run of days does not end at a bad one.
pub fn scan(path: &Path) -> Result<Scan> {
    let mut lines = Lines::open(path)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while lines.fill()? {
        hash.update(&lines.raw);
        bytes += lines.raw.len() as u64;
        lines.text()?;
    }
    let digest = hash.finalize();
    Ok(Scan {
        lines: lines.read,
        bytes,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Reads line by line.
pub struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    /// The current line as it is in the file.
    raw: Vec<u8>,
    read: u64,
}

impl Lines {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        if file.metadata().map_err(Error::io(path))?.is_dir() {
            return Err(Error::format(path, "a directory; name a file of captions"));
        }
        Ok(Self {
            path: path.into(),
            reader: BufReader::with_capacity(1 << 16, file),
            raw: Vec::new(),
            read: 0,
        })
    }

    /// Passes over lines.
    pub fn skip(&mut self, lines: u64) -> Result<()> {
        for _ in 0..lines {
            self.fill()?;
        }
        Ok(())
    }

    /// Up to `count` further lines; fewer at the end.
    pub fn take(&mut self, count: usize) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < count && self.fill()? {
            lines.push(self.text()?.to_string());
        }
        Ok(lines)
    }

    fn fill(&mut self) -> Result<bool> {
        self.raw.clear();
        let more = self.reader.read_until(b'\n', &mut self.raw);
        let more = more.map_err(Error::io(&self.path))? > 0;
        self.read += u64::from(more);
        Ok(more)
    }

    fn text(&self) -> Result<&str> {
        let line = self.raw.strip_suffix(b"\n").unwrap_or(&self.raw);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        std::str::from_utf8(line).map_err(|error| {
            Error::format(
                &self.path,
                format!(
                    "line {} is not UTF-8 (byte {} of the line); convert the file, for example by \
                     `iconv -f latin1 -t utf-8`",
                    self.read,
                    error.valid_up_to() + 1
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn lines_end_at_line_feeds_only() {
        for (content, expected) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a\n", &["a"]),
            ("a\n\nb", &["a", "", "b"]),
            ("\n\n", &["", ""]),
            ("a\r\nb\r\n", &["a", "b"]),
            ("a\rb\u{2028}c\u{85}\r\r\n", &["a\rb\u{2028}c\u{85}\r"]),
        ] {
            let file = file(content.as_bytes());
            assert_eq!(
                Lines::open(file.path()).unwrap().take(100).unwrap(),
                expected
            );
            let scan = scan(file.path()).unwrap();
            assert_eq!(
                (scan.lines, scan.bytes),
                (expected.len() as u64, content.len() as u64)
            );
        }
    }

    #[test]
    fn a_line_that_is_not_utf8_is_named() {
        let file = file(b"fine\ncaf\xe9\n");
        let message = scan(file.path()).unwrap_err().to_string();
        assert!(
            message.contains("line 2") && message.contains("byte 4"),
            "{message}"
        );
    }

    #[test]
    fn skipping_goes_on_where_taking_would() {
        let file = file(b"0\n1\n2\n3\n4");
        let mut lines = Lines::open(file.path()).unwrap();
        lines.skip(2).unwrap();
        assert_eq!(lines.take(2).unwrap(), ["2", "3"]);
        assert_eq!(lines.take(2).unwrap(), ["4"]);
        assert!(lines.take(2).unwrap().is_empty());
    }
}
