//! Tables of image paths and captions: open_clip's TSV, CC3M's headerless CSV, DreamLIP's caption
//! columns, and LaCLIP's CSV with line-aligned rewrite files.
//!
//! The table is scanned once and then read through a memory map; eight bytes a row are kept.

mod config;
mod quotes;
mod rewrites;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use ::csv::{ByteRecord, ReaderBuilder};

pub use config::{BrokenUtf8, CaptionColumn, Column, CsvConfig, ImageExtensions};
pub use quotes::swallowed;

use self::rewrites::Rewrites;
use crate::error::{DataError, Place};
use crate::image_file::read_image;
use crate::lines::MappedFile;
use crate::problem::{Problem, Problems};
use crate::report::{CaptionCounts, Dropped, SourceReport, spread};
use crate::sample::{CaptionKind, Captions, Sample};
use crate::source::{Source, out_of_range};

/// A row longer than this is taken for an unclosed quote that swallowed the rows after it.
const MAX_ROW: usize = 1 << 20;

/// The rows of a table, in their order.
#[derive(Debug)]
pub struct CsvSource {
    config: CsvConfig,
    columns: Columns,
    file: MappedFile,
    /// Where each usable row begins.
    rows: Vec<u64>,
    /// Numbers of the rows that count for the alignment of rewrites but cannot be used, ascending.
    unusable: Vec<usize>,
    rewrites: Option<Rewrites>,
    problems: Problems,
    /// Rows whose file name is not one of an image.
    refused: usize,
    counts: CaptionCounts,
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The image as the table names it.
    pub key: String,
    /// The image file.
    pub path: PathBuf,
    /// The captions.
    pub captions: Captions,
}

/// The configured columns, by index.
#[derive(Debug)]
struct Columns {
    image: usize,
    captions: Vec<CaptionPlace>,
    label: Option<usize>,
}

/// A column of captions, found.
#[derive(Debug)]
struct CaptionPlace {
    index: usize,
    kind: CaptionKind,
    weight: f64,
    /// Its name in the header; empty without one.
    name: String,
}

impl Columns {
    /// The number of columns a row must have.
    fn needed(&self) -> usize {
        let captions = self.captions.iter().map(|column| column.index);
        let last = captions.chain(self.label).fold(self.image, usize::max);
        last.saturating_add(1)
    }
}

impl CsvSource {
    /// Scans a table. Images are not looked at.
    ///
    /// Rows that are short, lack their caption, or have broken UTF-8 in the image path are skipped
    /// and told by [`CsvSource::problems`]; broken UTF-8 in a caption is replaced or skipped as
    /// configured and told too.
    ///
    /// # Errors
    ///
    /// Fails if a named column is missing, if more than `max_bad` of the rows are skipped, if no
    /// row is left, and if rewrites do not align with the rows.
    pub fn open(config: CsvConfig) -> Result<Self, DataError> {
        let file = MappedFile::open(&config.path)?;
        let columns = config.columns(&file)?;
        let mut scan = Scan {
            problems: Problems::default(),
            rows: Vec::new(),
            unusable: Vec::new(),
            counted: 0,
            skipped: 0,
            lost: 0,
        };
        let mut refused = 0;
        let mut reader = reader(&config)
            .has_headers(config.header)
            .from_reader(&file[..]);
        let mut record = ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {
                    let image = record.get(columns.image).unwrap_or_default();
                    let byte = record.position().map_or(0, |p| p.byte() as usize);
                    if reader.position().byte() as usize >= file.len()
                        && let Some(lines) = quotes::swallowed(&file[byte..], config.separator)
                    {
                        scan.unclosed_quote(&config.path, &record, lines);
                    } else if config.image_extensions.accept(image) {
                        scan.row(&config, &columns, &record);
                    } else {
                        refused += 1;
                    }
                }
                Err(error) => {
                    let what = format!("cannot be read as a table: {error}");
                    return Err(DataError::malformed(&config.path, Place::Whole, what));
                }
            }
        }

        let Scan {
            problems,
            rows,
            unusable,
            counted,
            skipped,
            lost,
        } = scan;
        let name = config.path.display().to_string();
        problems.check(&name, (skipped, counted + lost, "rows"), config.max_bad)?;
        if rows.is_empty() {
            let what = match problems.iter().next() {
                Some(first) => format!("no usable row; the first problem: {first}"),
                None if refused > 0 => format!(
                    "none of {refused} rows names an image file; check the separator and the image column"
                ),
                None => "no rows".into(),
            };
            return Err(DataError::malformed(&config.path, Place::Whole, what));
        }
        let rewrites = match config.rewrites.as_slice() {
            [] => None,
            files => Some(Rewrites::open(files, &config.path, counted, refused)?),
        };
        let mut source = Self {
            config,
            columns,
            file,
            rows,
            unusable,
            rewrites,
            problems,
            refused,
            counts: CaptionCounts::default(),
        };
        let rows = spread(source.rows.len()).map(|index| {
            let record = source.record(index)?;
            Ok(source.captions(index, &record))
        });
        let captions = rows.collect::<Result<Vec<_>, DataError>>()?;
        source.counts = CaptionCounts::of(captions);
        Ok(source)
    }

    /// What was skipped or replaced.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// A row, without reading its image.
    ///
    /// # Errors
    ///
    /// Fails if there is no such row, and if the file was changed.
    pub fn row(&self, index: usize) -> Result<Row, DataError> {
        let record = self.record(index)?;
        let key = self.field(&record, self.columns.image).into_owned();
        Ok(Row {
            path: self.image_path(&key),
            captions: self.captions(index, &record),
            key,
        })
    }

    fn field<'a>(&self, record: &'a ByteRecord, column: usize) -> Cow<'a, str> {
        String::from_utf8_lossy(record.get(column).unwrap_or_default())
    }

    /// Path of the image of a row, as the table has it.
    fn image_path(&self, name: &str) -> PathBuf {
        match &self.config.root {
            Some(root) => root.join(name),
            None => PathBuf::from(name),
        }
    }

    /// Number of usable row `index` among all rows that count for the alignment.
    fn number(&self, index: usize) -> usize {
        // The j-th unusable row stands before `index` if fewer than `index + 1` usable rows precede
        // it.
        let mut before = 0;
        let (mut low, mut high) = (0, self.unusable.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.unusable[middle] - middle <= index {
                before = middle + 1;
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        index + before
    }

    /// The captions of a row.
    fn captions(&self, index: usize, record: &ByteRecord) -> Captions {
        let mut captions = Captions::default();
        for column in &self.columns.captions {
            let text = String::from_utf8_lossy(record.get(column.index).unwrap_or_default());
            captions.add(column.kind, text.into(), column.weight, &column.name);
        }
        if let Some(rewrites) = &self.rewrites {
            rewrites
                .of_row(self.number(index))
                .for_each(|text| captions.push(CaptionKind::Rewrite, text));
        }
        captions
    }

    fn record(&self, index: usize) -> Result<ByteRecord, DataError> {
        let start = *self
            .rows
            .get(index)
            .ok_or_else(|| out_of_range(self, index))? as usize;
        let mut record = ByteRecord::new();
        let mut reader = reader(&self.config)
            .has_headers(false)
            .from_reader(&self.file[start..]);
        let read = reader.read_byte_record(&mut record);
        match read {
            Ok(true) => Ok(record),
            _ => Err(DataError::malformed(
                &self.config.path,
                Place::Byte(start as u64),
                "the row is gone; was the file changed?",
            )),
        }
    }
}

impl Source for CsvSource {
    fn len(&self) -> usize {
        self.rows.len()
    }

    /// Reads a row and its image file.
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let record = self.record(index)?;
        let field = |column: usize| self.field(&record, column);
        let key = field(self.columns.image).into_owned();
        let path = self.image_path(&key);
        let image = read_image(&path)?;
        let label = match self.columns.label {
            None => None,
            Some(column) => Some(field(column).trim().parse().map_err(|_| {
                let what = format!(
                    "the label of {key} is `{}`, not a class index",
                    field(column)
                );
                DataError::malformed(&self.config.path, Place::Byte(self.rows[index]), what)
            })?),
        };
        Ok(Sample {
            key,
            image,
            captions: self.captions(index, &record),
            label,
            embeddings: None,
        })
    }

    fn name(&self) -> String {
        self.config.path.display().to_string()
    }

    fn reports(&self) -> Vec<SourceReport> {
        let mut dropped = self.problems.by_reason();
        if self.refused > 0 {
            dropped.push(Dropped {
                count: self.refused,
                reason: "the file name is not one of an image".into(),
                first: "see `image_extensions`".into(),
            });
        }
        vec![SourceReport {
            name: self.name(),
            samples: self.len(),
            captions: Some(self.counts),
            dropped,
        }]
    }
}

fn reader(config: &CsvConfig) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(config.separator as u8).flexible(true);
    builder
}

/// What a scan over the rows gathers.
struct Scan {
    problems: Problems,
    rows: Vec<u64>,
    unusable: Vec<usize>,
    /// Rows that count for the alignment.
    counted: usize,
    /// Rows that cannot be used, and lines of which nobody knows how many rows they were.
    skipped: usize,
    /// These lines.
    lost: usize,
}

impl Scan {
    fn row(&mut self, config: &CsvConfig, columns: &Columns, record: &ByteRecord) {
        let (line, byte) = record
            .position()
            .map_or((0, 0), |position| (position.line(), position.byte()));
        match check(config, columns, record) {
            Verdict::Good => self.rows.push(byte),
            Verdict::Mended(what) => {
                self.problem(&config.path, line, what);
                self.rows.push(byte);
            }
            Verdict::Unusable(what) => {
                self.problem(&config.path, line, what);
                self.unusable.push(self.counted);
                self.skipped += 1;
                if record.as_slice().len() > MAX_ROW {
                    // Most likely every line in it was a row.
                    let lines = record.as_slice().iter().filter(|byte| **byte == b'\n');
                    let lines = lines.count();
                    self.skipped += lines;
                    self.lost += lines;
                }
            }
        }
        self.counted += 1;
    }

    fn problem(&mut self, path: &Path, line: u64, what: String) {
        self.problems
            .push(Problem::new(path, Place::Line(line), what));
    }
}

impl Scan {
    /// The last row has a quote that is never closed, which made `lines` more lines part of it.
    fn unclosed_quote(&mut self, path: &Path, record: &ByteRecord, lines: usize) {
        let line = record.position().map_or(0, |position| position.line());
        let what = format!(
            "a quote in this row is never closed: it and the {lines} lines behind it are lost"
        );
        self.problem(path, line, what);
        self.unusable.push(self.counted);
        self.skipped += 1 + lines;
        self.lost += lines;
        self.counted += 1;
    }
}

enum Verdict {
    Good,
    Mended(String),
    Unusable(String),
}

fn check(config: &CsvConfig, columns: &Columns, record: &ByteRecord) -> Verdict {
    if record.len() < columns.needed() {
        let (has, needed) = (record.len(), columns.needed());
        return Verdict::Unusable(format!("{has} columns instead of at least {needed}"));
    }
    if record.as_slice().len() > MAX_ROW {
        return Verdict::Unusable(
            "a row of more than a megabyte; probably a quote that is closed far too late".into(),
        );
    }
    let field = |column: usize| record.get(column).unwrap_or_default();
    if std::str::from_utf8(field(columns.image)).is_err() || field(columns.image).is_empty() {
        return Verdict::Unusable("the image path is empty or not UTF-8".into());
    }
    let blank = |column: usize| field(column).trim_ascii().is_empty();
    if config.rewrites.is_empty()
        && columns.captions.iter().all(|column| blank(column.index))
        && !columns.captions.is_empty()
    {
        return Verdict::Unusable("the caption is empty".into());
    }
    let broken = columns
        .captions
        .iter()
        .any(|column| std::str::from_utf8(field(column.index)).is_err());
    match (broken, config.broken_utf8) {
        (false, _) => Verdict::Good,
        (true, BrokenUtf8::Replace) => {
            Verdict::Mended("broken UTF-8 in a caption was replaced by U+FFFD".into())
        }
        (true, BrokenUtf8::Skip) => Verdict::Unusable("broken UTF-8 in a caption".into()),
    }
}

#[cfg(test)]
mod tests;
