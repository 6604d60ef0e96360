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

/// Counts lines and makes sure that all are UTF-8 and the first is no header of a table, so that a run of days does not
/// end at a bad line or rewrite paths and links.
pub fn scan(path: &Path) -> Result<Scan> {
    let mut lines = Lines::open(path)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while lines.fill()? {
        hash.update(&lines.raw);
        bytes += lines.raw.len() as u64;
        let text = lines.text()?;
        if lines.read == 1 && is_header(text) {
            return Err(Error::format(
                path,
                format!(
                    "line 1, `{text}`, is the header of a table; a file of captions is wanted, one on each line and \
                     nothing else: write the column of captions to a file of its own, without its name"
                ),
            ));
        }
    }
    let digest = hash.finalize();
    Ok(Scan {
        lines: lines.read,
        bytes,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Names that columns have in the tables that training reads, and in those that img2dataset writes.
const COLUMNS: [&str; 11] = [
    "filepath",
    "filename",
    "image",
    "image_path",
    "path",
    "url",
    "title",
    "caption",
    "captions",
    "text",
    "label",
];

/// Whether a line names columns: of several that are separated by tabs one is known; of those that are separated by
/// commas, as words of a caption may be, two are, and all are single words.
fn is_header(line: &str) -> bool {
    let columns = |separator: char| -> Vec<String> {
        let columns = line.trim_start_matches('\u{feff}').split(separator);
        columns
            .map(|name| name.trim().trim_matches('"').to_lowercase())
            .collect()
    };
    let known = |names: &[String]| {
        let known = names.iter().filter(|name| COLUMNS.contains(&name.as_str()));
        known.count()
    };
    let (tabs, commas) = (columns('\t'), columns(','));
    let is_word = |name: &String| !name.is_empty() && !name.contains(char::is_whitespace);
    (tabs.len() > 1 && known(&tabs) > 0) || (known(&commas) > 1 && commas.iter().all(is_word))
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
    fn the_header_of_a_table_is_no_caption() {
        for header in [
            "filepath\ttitle",
            "\u{feff}URL\tTEXT\r",
            "id\tcaption\tscore",
            "image,caption",
            "\"filepath\", \"title\"",
        ] {
            let message = scan(file(format!("{header}\na dog\n").as_bytes()).path());
            let message = message.unwrap_err().to_string();
            let said = ["line 1", "header of a table", "column of captions"];
            assert!(said.iter().all(|word| message.contains(word)), "{message}");
        }
        for caption in [
            "caption",
            "image, by a friend",
            "text,",
            "a dog\ta cat",
            "image, logo",
            "title, caption and all",
        ] {
            scan(file(format!("{caption}\nfilepath\ttitle\n").as_bytes()).path()).unwrap();
        }
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
