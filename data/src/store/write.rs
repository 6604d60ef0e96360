//! Making a store, file by file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::part::{Part, Row, encode, write_whole};
use super::{INDEX, Store, StoreInfo};
use crate::error::{DataError, Place};

/// Writes a store. Files that are there from an earlier run are kept after a look at their keys and captions, so an
/// extraction that was killed at any moment goes on without a gap or a double.
#[derive(Debug)]
pub struct StoreWriter {
    pub(super) folder: PathBuf,
    info: StoreInfo,
}

impl StoreWriter {
    /// Begins a store, or goes on with one.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, and when what is there is of another language model, or of other captions.
    pub fn open(folder: &Path, info: StoreInfo) -> Result<Self, DataError> {
        if info.fields.is_empty() || info.samples == 0 || info.width == 0 || info.part == 0 {
            let what = format!(
                "{}: nothing to store: {} samples, {} fields, vectors of {}, {} samples in a file",
                folder.display(),
                info.samples,
                info.fields.len(),
                info.width,
                info.part
            );
            return Err(DataError::Config(what));
        }
        std::fs::create_dir_all(folder).map_err(|e| DataError::io(folder, e))?;
        if folder.join(INDEX).is_file() {
            let there = Store::open(folder)?;
            if (&there.info.llm, &there.info.fields) != (&info.llm, &info.fields) {
                let what = format!(
                    "holds a store of [{}] by {}; choose another folder, or remove it",
                    there.info.fields.join(", "),
                    there.info.llm_path
                );
                return Err(DataError::malformed(folder, Place::Whole, what));
            }
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            info,
        })
    }

    /// Number of files.
    pub fn parts(&self) -> usize {
        self.info.parts()
    }

    /// The samples of a file.
    pub fn samples(&self, part: usize) -> Range<usize> {
        let start = part * self.info.part;
        start..(start + self.info.part).min(self.info.samples)
    }

    /// Whether a file is there, with the vectors of these rows.
    ///
    /// # Errors
    ///
    /// When it holds other ones, or is not of this store.
    pub fn has(&self, part: usize, rows: &[Row]) -> Result<bool, DataError> {
        let path = StoreInfo::part_path(&self.folder, part);
        if !path.is_file() {
            return Ok(false);
        }
        match Part::open(&self.folder, &self.info, part)?.differs(rows) {
            None => Ok(true),
            Some((row, what)) => {
                let what = format!(
                    "was made of {what}: the data changed since; remove this file to make its vectors again"
                );
                Err(DataError::malformed(&path, Place::Row(row as u64), what))
            }
        }
    }

    /// Writes a file. `vectors` are those of the captions that are there, one after another.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the numbers are not as many as the captions want.
    pub fn write(&self, part: usize, rows: &[Row], vectors: &[f32]) -> Result<(), DataError> {
        let path = StoreInfo::part_path(&self.folder, part);
        let bytes = encode(&self.info, part, rows, vectors)
            .map_err(|what| DataError::malformed(&path, Place::Whole, what))?;
        write_whole(&path, &bytes)
    }

    /// Refuses files that are missing, cut or of another store.
    pub(super) fn check(&self, mut parts: Range<usize>) -> Result<(), DataError> {
        parts.try_for_each(|part| Part::open(&self.folder, &self.info, part).map(drop))
    }

    /// Makes the folder a store, when all files are there.
    ///
    /// # Errors
    ///
    /// Names the file that is missing.
    pub fn finish(self) -> Result<Store, DataError> {
        self.check(0..self.parts())?;
        let index = serde_json::to_string_pretty(&self.info).expect("plain fields") + "\n";
        write_whole(&self.folder.join(INDEX), index.as_bytes())?;
        Store::open(&self.folder)
    }
}
