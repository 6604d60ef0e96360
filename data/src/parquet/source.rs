//! The rows of a list of files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::data_type::ByteArray;
use rayon::prelude::*;

use super::ParquetConfig;
use super::cache::Cache;
use super::file::{self, RowGroup, Rows};
use crate::error::{DataError, Place};
use crate::problem::Problems;
use crate::report::{CaptionCounts, SourceReport};
use crate::sample::{Captions, Sample};
use crate::source::{Source, out_of_range};

/// The usable rows of a list of files, in the order of the list.
///
/// A row is read by decoding its row group; the groups used last are kept, up to
/// [`ParquetConfig::cache_mb`]. Besides that, about one kilobyte for each row group and four bytes
/// for each row are held.
#[derive(Debug)]
pub struct ParquetSource {
    config: ParquetConfig,
    files: Vec<PathBuf>,
    /// Row groups with the index of their file.
    groups: Vec<(usize, RowGroup)>,
    /// `ends[i]` is the number of usable rows in row groups `0..=i`.
    ends: Vec<usize>,
    cache: Cache,
    /// One for each row group: threads that want the same one wait for the first to decode it.
    reading: Vec<Mutex<()>>,
    problems: Problems,
    counts: CaptionCounts,
}

impl ParquetSource {
    /// Reads the captions of all files, several files at a time.
    ///
    /// Rows without an image or without a caption are dropped and told by
    /// [`ParquetSource::problems`]. Images are read only in row groups that lack some and whose
    /// `status` column, as img2dataset writes it, does not tell which.
    ///
    /// # Errors
    ///
    /// Fails if a file is damaged, if a column is missing or of another type, if more than
    /// `max_bad` of the rows are dropped, and if none is left.
    pub fn open(config: ParquetConfig) -> Result<Self, DataError> {
        let files = config.paths()?;
        let opened: Vec<_> = files
            .par_iter()
            .map(|path| file::open(path, &config))
            .collect::<Result<_, _>>()?;
        let mut problems = Problems::default();
        let (mut groups, mut ends, mut len) = (Vec::new(), Vec::new(), 0);
        let mut counts = CaptionCounts::default();
        for (index, file) in opened.into_iter().enumerate() {
            problems.append(file.dropped);
            for (field, count) in config.caption_fields.iter().zip(file.captions) {
                *counts.of_kind(field.kind) += count;
            }
            for group in file.groups {
                len += group.usable.len();
                ends.push(len);
                groups.push((index, group));
            }
        }
        let dropped = problems.count();
        let total = len + dropped;
        problems.check(&config.files, (dropped, total, "rows"), config.max_bad)?;
        if len == 0 {
            let what = match problems.iter().next() {
                Some(first) => format!("no usable row; the first problem: {first}"),
                None => "no rows".into(),
            };
            return Err(DataError::Pattern {
                pattern: config.files,
                what,
            });
        }
        Ok(Self {
            cache: Cache::new(config.cache_mb.saturating_mul(1 << 20)),
            config,
            files,
            reading: groups.iter().map(|_| Mutex::default()).collect(),
            groups,
            ends,
            problems,
            counts: CaptionCounts {
                samples: len,
                ..counts
            },
        })
    }

    /// What was dropped.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    fn rows(&self, group: usize) -> Result<Arc<Rows>, DataError> {
        if let Some(rows) = self.cache.get(group) {
            return Ok(rows);
        }
        let _alone = self.reading[group]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = self.cache.get(group) {
            return Ok(rows);
        }
        let (file, row_group) = &self.groups[group];
        let rows = Arc::new(row_group.read(&self.files[*file])?);
        self.cache.put(group, &rows);
        Ok(rows)
    }

    fn find(&self, index: usize) -> Result<Found<'_>, DataError> {
        let group = self.ends.partition_point(|end| *end <= index);
        let start = if group == 0 { 0 } else { self.ends[group - 1] };
        let Some((file, row_group)) = self.groups.get(group) else {
            return Err(out_of_range(self, index));
        };
        let row = row_group.usable[index - start] as usize;
        Ok(Found {
            path: &self.files[*file],
            rows: self.rows(group)?,
            row,
            number: row_group.first + row as u64,
        })
    }
}

/// Where a row is.
struct Found<'a> {
    path: &'a Path,
    rows: Arc<Rows>,
    /// Counted from the first of these.
    row: usize,
    /// Counted from the first of the file.
    number: u64,
}

impl Source for ParquetSource {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let Found {
            path,
            rows,
            row,
            number,
        } = self.find(index)?;
        let Some(image) = rows.image.row(row).first() else {
            let what = "no image, though `status` says that there is one";
            return Err(DataError::malformed(path, Place::Row(number), what));
        };
        let mut captions = Captions::default();
        for (field, column) in self.config.caption_fields.iter().zip(&rows.captions) {
            let texts: Vec<_> = column.row(row).iter().map(text).collect();
            field.add(texts.iter().map(AsRef::as_ref), &mut captions);
        }
        let key = rows.key.as_ref().and_then(|key| key.row(row).first());
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Sample {
            key: key.map_or_else(
                || format!("{file_name}/{number}"),
                |key| text(key).into_owned(),
            ),
            image: image.data().to_vec(),
            captions,
            label: None,
            embeddings: None,
        })
    }

    fn name(&self) -> String {
        self.config.files.clone()
    }

    fn url(&self, index: usize) -> Result<Option<String>, DataError> {
        if self.config.url_column.is_none() {
            return Ok(None);
        }
        let Found { rows, row, .. } = self.find(index)?;
        let url = rows.url.as_ref().and_then(|url| url.row(row).first());
        Ok(url.map(|url| text(url).into_owned()))
    }

    fn reports(&self) -> Vec<SourceReport> {
        vec![SourceReport {
            name: self.name(),
            samples: self.len(),
            captions: (!self.config.caption_fields.is_empty()).then_some(self.counts),
            dropped: self.problems.by_reason(),
        }]
    }
}

fn text(value: &ByteArray) -> Cow<'_, str> {
    String::from_utf8_lossy(value.data())
}

#[cfg(test)]
mod tests;
