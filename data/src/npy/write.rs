//! Writes tables row by row, without knowing at the start how many rows there will be.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use files::Unfinished;
use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};

use super::MAGIC;
use crate::error::DataError;

/// How numbers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Float {
    /// Four bytes, `<f4`.
    #[default]
    F32,
    /// Two bytes, `<f2`: rounded to the nearest, to even where two are.
    F16,
}

impl Float {
    /// NumPy's name.
    pub fn descr(self) -> &'static str {
        match self {
            Self::F32 => "<f4",
            Self::F16 => "<f2",
        }
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// Writes numbers, little-endian.
    ///
    /// # Errors
    ///
    /// When the writer refuses.
    pub fn write(self, values: &[f32], to: &mut impl Write) -> std::io::Result<()> {
        let mut halves = [f16::ZERO; BLOCK];
        let mut bytes = Vec::with_capacity(BLOCK * self.size());
        for values in values.chunks(BLOCK) {
            bytes.clear();
            match self {
                Self::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
                Self::F16 => {
                    let halves = &mut halves[..values.len()];
                    halves.convert_from_f32_slice(values);
                    bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
                }
            }
            to.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// Numbers that are converted at once.
const BLOCK: usize = 1024;

/// Bytes of the header, the same for any number of rows: it is written again at the end.
const HEADER: usize = 128;

/// A table in C order that grows by rows. It appears whole or not at all.
#[derive(Debug)]
pub struct RowWriter {
    file: BufWriter<Unfinished>,
    float: Float,
    dim: usize,
    rows: usize,
}

impl RowWriter {
    /// Begins the table `[?, dim]` that will be at `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be created.
    pub fn create(path: &Path, dim: usize, float: Float) -> Result<Self, DataError> {
        let create = || {
            let mut file = BufWriter::with_capacity(1 << 16, Unfinished::create(path)?);
            file.write_all(&header(float, 0, dim))?;
            Ok(file)
        };
        Ok(Self {
            file: create().map_err(|error| DataError::io(path, error))?,
            float,
            dim,
            rows: 0,
        })
    }

    /// Adds rows.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    ///
    /// # Panics
    ///
    /// Panics if the values make no whole rows.
    pub fn push(&mut self, values: &[f32]) -> Result<(), DataError> {
        assert!(
            values.len().is_multiple_of(self.dim),
            "rows of {}",
            self.dim
        );
        let written = self.float.write(values, &mut self.file);
        written.map_err(|error| DataError::io(self.file.get_ref().path(), error))?;
        self.rows += values.len() / self.dim;
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn finish(mut self) -> Result<(), DataError> {
        let path = self.file.get_ref().path().to_path_buf();
        let header = header(self.float, self.rows, self.dim);
        let end = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&header)?;
            let file = self.file.into_inner();
            file.map_err(|error| error.into_error())?.finish()
        };
        end().map_err(|error| DataError::io(path, error))
    }
}

/// Version 1.0, as `numpy.save` writes it, padded to [`HEADER`] bytes.
fn header(float: Float, rows: usize, dim: usize) -> Vec<u8> {
    let descr = float.descr();
    let text =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend(((HEADER - 10) as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(HEADER - 1, b' '); // two numbers of 20 digits leave room
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::{Array, Header, parse};
    use super::*;

    #[test]
    fn what_was_written_row_by_row_is_read_as_one_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for (float, third) in [(Float::F32, 1.0 / 3.0), (Float::F16, 0.333_251_95)] {
            let mut writer = RowWriter::create(&path, 2, float).unwrap();
            writer.push(&[1.0, -2.0]).unwrap();
            writer.push(&[1.0 / 3.0, 0.0, 5.0, 6.0]).unwrap();
            writer.finish().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let expected = Array {
                shape: vec![3, 2],
                values: vec![1.0, -2.0, third, 0.0, 5.0, 6.0],
            };
            assert_eq!(parse(&bytes).unwrap(), expected);
            let header = Header::parse(&bytes).unwrap();
            assert_eq!((header.descr.as_str(), header.start), (float.descr(), 128));
            assert_eq!(bytes.len(), 128 + 6 * float.size());
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn the_header_has_one_length_for_every_table() {
        for (rows, dim) in [(0, 1), (usize::MAX, usize::MAX)] {
            let header = header(Float::F16, rows, dim);
            assert_eq!(header.len(), HEADER);
            assert_eq!(Header::parse(&header).unwrap().shape, [rows, dim]);
            assert!(header.ends_with(b"\n"));
        }
    }
}
