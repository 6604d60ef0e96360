//! The lines of a large text file, without holding them in memory.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::error::DataError;

/// A file's bytes, mapped into memory.
#[derive(Debug)]
pub(crate) struct MappedFile {
    /// `None` for an empty file, which cannot be mapped everywhere.
    map: Option<Mmap>,
}

impl MappedFile {
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let io = |error| DataError::io(path, error);
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the map is only read. The file must not be shortened while it is in use;
        // annotation files are written once.
        #[expect(unsafe_code, reason = "mapping a file has no safe form")]
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { map: Some(map) })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// `\n`; a `\r` before it is dropped.
    Newline,
    /// `\n`, `\r\n` and a lone `\r`, as Python's text mode reads a file.
    Universal,
}

/// The place of every `STRIDE`-th line is kept; the lines between are found by counting.
const STRIDE: usize = 16;

/// A text file with access by line number.
#[derive(Debug)]
pub(crate) struct Lines {
    file: MappedFile,
    end: LineEnd,
    starts: Vec<u64>,
    len: usize,
}

impl Lines {
    pub fn new(file: MappedFile, end: LineEnd) -> Self {
        let (mut starts, mut len, mut at) = (Vec::new(), 0, 0);
        while at < file.len() {
            if len % STRIDE == 0 {
                starts.push(at as u64);
            }
            at += split_line(&file[at..], end).1;
            len += 1;
        }
        Self {
            file,
            end,
            starts,
            len,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Line `index`, from 0, without its end.
    ///
    /// # Panics
    ///
    /// Panics if `index` is not below [`Lines::len`].
    pub fn get(&self, index: usize) -> &[u8] {
        assert!(index < self.len, "line {index} of {}", self.len);
        let mut at = self.starts[index / STRIDE] as usize;
        for _ in 0..index % STRIDE {
            at += split_line(&self.file[at..], self.end).1;
        }
        split_line(&self.file[at..], self.end).0
    }

    /// Line `index` as text; broken UTF-8 becomes U+FFFD.
    pub fn text(&self, index: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(self.get(index))
    }

    /// Calls `visit` with every line and its number.
    pub fn for_each(&self, mut visit: impl FnMut(usize, &[u8])) {
        let mut at = 0;
        for index in 0..self.len {
            let (line, step) = split_line(&self.file[at..], self.end);
            visit(index, line);
            at += step;
        }
    }
}

/// The first line of `bytes` without its end, and how many bytes it takes with its end.
fn split_line(bytes: &[u8], end: LineEnd) -> (&[u8], usize) {
    let is_end = |byte: &u8| *byte == b'\n' || (end == LineEnd::Universal && *byte == b'\r');
    let Some(at) = bytes.iter().position(is_end) else {
        return (bytes.strip_suffix(b"\r").unwrap_or(bytes), bytes.len());
    };
    let line = &bytes[..at];
    match end {
        LineEnd::Newline => (line.strip_suffix(b"\r").unwrap_or(line), at + 1),
        LineEnd::Universal => (
            line,
            at + if bytes[at..].starts_with(b"\r\n") {
                2
            } else {
                1
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &str, end: LineEnd) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, text).unwrap();
        let lines = Lines::new(MappedFile::open(&path).unwrap(), end);
        let mut visited = Vec::new();
        lines.for_each(|_, line| visited.push(String::from_utf8_lossy(line).into_owned()));
        let read: Vec<_> = (0..lines.len())
            .map(|i| lines.text(i).into_owned())
            .collect();
        assert_eq!(visited, read);
        read
    }

    #[test]
    fn a_lone_carriage_return_ends_a_line_only_in_text_mode() {
        let text = "a\rb\r\n\nc";
        assert_eq!(lines(text, LineEnd::Newline), ["a\rb", "", "c"]);
        assert_eq!(lines(text, LineEnd::Universal), ["a", "b", "", "c"]);
        assert!(lines("", LineEnd::Newline).is_empty());
        assert_eq!(lines("\n", LineEnd::Newline), [""]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn lines_are_those_of_the_standard_library(parts in prop::collection::vec("[a-z]{0,5}\r?", 0..80)) {
            let text = parts.join("\n");
            let stripped = |l: &str| l.strip_suffix('\r').unwrap_or(l).to_string();
            let expected: Vec<String> = text.lines().map(stripped).collect();
            prop_assert_eq!(lines(&text, LineEnd::Newline), expected);
            let python = text.replace("\r\n", "\n").replace('\r', "\n");
            let python: Vec<_> = python.lines().map(String::from).collect();
            prop_assert_eq!(lines(&text, LineEnd::Universal), python);
        }
    }
}
