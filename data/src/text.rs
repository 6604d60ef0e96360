//! Text without images: files in which every line is a sample.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Place};
use crate::lines::{LineEnd, Lines, MappedFile};
use crate::source::{Keyed, Source, out_of_range};
use crate::webdataset::local_files;

/// One line of a text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// File and line number, from 1: `wiki.txt:17`.
    pub key: String,
    /// The text without its line end; broken UTF-8 becomes U+FFFD.
    pub text: String,
}

impl Keyed for Line {
    fn key(&self) -> &str {
        &self.key
    }
}

/// Which text files are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinesConfig {
    /// A pattern such as `wiki-{00..07}.txt`, see [`expand`](crate::webdataset::expand); several are
    /// joined by `::`.
    pub files: String,
    /// Folder that relative names of files start from, if not the working directory.
    pub root: Option<PathBuf>,
}

impl LinesConfig {
    /// The files of a pattern.
    pub fn new(files: impl Into<String>) -> Self {
        Self {
            files: files.into(),
            root: None,
        }
    }
}

/// The lines of some text files, one sample each, in their order. Blank lines are no samples.
///
/// The files are scanned once and then read through a memory map; four bytes a line are kept.
#[derive(Debug)]
pub struct LinesSource {
    name: String,
    files: Vec<TextFile>,
    /// `ends[i]` is the number of samples in files `0..=i`.
    ends: Vec<usize>,
}

#[derive(Debug)]
struct TextFile {
    path: PathBuf,
    lines: Lines,
    /// The lines that are not blank.
    filled: Vec<u32>,
}

impl LinesSource {
    /// Scans the files.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, has more than 2³² lines, or holds nothing but blank lines.
    pub fn open(config: LinesConfig) -> Result<Self, DataError> {
        let (mut files, mut ends, mut len) = (Vec::new(), Vec::new(), 0);
        for path in local_files(&config.files, config.root.as_deref())? {
            let lines = Lines::new(MappedFile::open(&path)?, LineEnd::Newline);
            if u32::try_from(lines.len()).is_err() {
                let what = "more than 2³² lines; split the file";
                return Err(DataError::malformed(&path, Place::Whole, what));
            }
            let mut filled = Vec::new();
            lines.for_each(|number, line| {
                if !String::from_utf8_lossy(line).trim().is_empty() {
                    filled.push(number as u32);
                }
            });
            if filled.is_empty() {
                let what = "no line with text; every line is a sample";
                return Err(DataError::malformed(&path, Place::Whole, what));
            }
            len += filled.len();
            ends.push(len);
            files.push(TextFile {
                path,
                lines,
                filled,
            });
        }
        Ok(Self {
            name: config.files,
            files,
            ends,
        })
    }
}

impl Source<Line> for LinesSource {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn get(&self, index: usize) -> Result<Line, DataError> {
        let file = self.ends.partition_point(|end| *end <= index);
        let start = if file == 0 { 0 } else { self.ends[file - 1] };
        let file = self
            .files
            .get(file)
            .ok_or_else(|| out_of_range(self, index))?;
        let number = file.filled[index - start] as usize;
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Line {
            key: format!("{name}:{}", number + 1),
            text: file.lines.text(number).into_owned(),
        })
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loader, LoaderOptions, Sampler};
    use std::fs;
    use std::sync::Arc;

    fn open(files: &[&str]) -> Result<LinesSource, String> {
        let folder = tempfile::tempdir().unwrap();
        for (number, text) in files.iter().enumerate() {
            fs::write(folder.path().join(format!("{number}.txt")), text).unwrap();
        }
        let config = LinesConfig {
            root: Some(folder.path().into()),
            ..LinesConfig::new(format!("{{0..{}}}.txt", files.len() - 1))
        };
        LinesSource::open(config).map_err(|error| error.to_string())
    }

    #[test]
    fn every_line_with_text_is_a_sample_that_knows_its_place() {
        let source = open(&["one\r\n\n  \ntwo", "drei \n"]).unwrap();
        let samples: Vec<_> = (0..3).map(|i| source.get(i).unwrap()).collect();
        let told: Vec<_> = samples.iter().map(|l| (&*l.key, &*l.text)).collect();
        assert_eq!(
            told,
            [("0.txt:1", "one"), ("0.txt:4", "two"), ("1.txt:1", "drei ")]
        );
        let beyond = source.get(3).unwrap_err().to_string();
        assert!(beyond.contains("only 3"), "{beyond}");
    }

    #[test]
    fn a_file_without_text_and_a_missing_one_are_named() {
        let blank = open(&["one", " \n\n"]).unwrap_err();
        assert!(blank.contains("1.txt: no line with text"), "{blank}");
        let missing = LinesSource::open(LinesConfig::new("nowhere.txt")).unwrap_err();
        assert!(missing.to_string().contains("nowhere.txt"), "{missing}");
    }

    #[test]
    fn a_loader_makes_batches_of_text() {
        let source = Arc::new(open(&["a\nb\nc\nd\n"]).unwrap());
        let sampler = Sampler::sequential(4);
        let collate =
            |lines: Vec<Line>, _: &mut _| Ok(lines.into_iter().map(|l| l.text).collect::<String>());
        let loader = Loader::new(source, sampler, LoaderOptions::new(2, 1), collate).unwrap();
        assert_eq!(loader.map(Result::unwrap).collect::<Vec<_>>(), ["ab", "cd"]);
    }
}
