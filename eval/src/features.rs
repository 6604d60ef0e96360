//! Embeddings of many items: rows of floats in memory or in a memory-mapped safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::error::{EvalError, Result};
use crate::files;

/// Name of the image embeddings in a features file.
pub const IMAGE_FEATURES: &str = "image_features";
/// Name of the text embeddings in a features file.
pub const TEXT_FEATURES: &str = "text_features";
/// Name of the factor by which cosines become logits, already exponentiated, in a features file.
pub const LOGIT_SCALE: &str = "logit_scale";
/// Key of the metadata that names the image of each row, as a JSON list.
pub const IMAGE_PATHS: &str = "image_paths";
/// Key of the metadata that names the text of each row, as a JSON list.
pub const TEXTS: &str = "texts";

/// Longest row of a file.
const MAX_DIM: usize = 1 << 24;

/// A table of `len` embeddings of `dim` floats each, not necessarily of unit length.
pub struct Features {
    len: usize,
    dim: usize,
    storage: Storage,
    /// The image path or text of each row, where the file has them.
    names: Option<Vec<String>>,
}

enum Storage {
    Memory(Vec<f32>),
    /// Mapped files, little endian, one after another.
    Files {
        files: Vec<Mapped>,
        dtype: Dtype,
    },
}

/// Rows in a file.
struct Mapped {
    map: Mmap,
    /// Where the first of them begins.
    start: usize,
    /// Rows in this file and in those before it.
    end: usize,
}

impl Mapped {
    /// Maps a file, of which nothing is read yet.
    fn map(path: &Path) -> Result<Mmap> {
        let file = File::open(path).map_err(EvalError::io(path))?;
        // SAFETY: the map is read-only. Another process truncating the file meanwhile would end this one by a signal,
        // the accepted price of mapping in this field (safetensors and burn-store do the same).
        #[allow(unsafe_code)]
        unsafe { Mmap::map(&file) }.map_err(EvalError::io(path))
    }
}

impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.storage {
            Storage::Memory(_) => "memory",
            Storage::Files { .. } => "files",
        };
        write!(
            f,
            "Features {{ len: {}, dim: {}, in: {place} }}",
            self.len, self.dim
        )
    }
}

impl Features {
    /// Takes row-major values, `dim` to a row.
    pub fn new(values: Vec<f32>, dim: usize) -> Result<Self> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            let reason = format!("{} values do not make rows of {dim}", values.len());
            return Err(EvalError::Features(reason));
        }
        let len = values.len() / dim;
        Ok(Self {
            len,
            dim,
            storage: Storage::Memory(values),
            names: None,
        })
    }

    /// Maps the tensor `name` of a safetensors file, or its only tensor if it has just one. Nothing is read yet. Also maps an
    /// `.npy` file or a folder of such, as [`parts`](crate::parts) and clip-retrieval write them.
    ///
    /// The file's metadata may name the rows: `image_paths` of images, `texts` of texts, as JSON lists.
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        let side = name;
        if npy::is_npy(path) {
            return npy::open(path, name);
        }
        let map = Mapped::map(path)?;
        let tensors = SafeTensors::deserialize(&map)
            .map_err(|e| EvalError::format(path, format!("not a safetensors file: {e}")))?;
        let mut names = tensors.names();
        names.sort_unstable();
        // A single tensor may have any name, except that of the other side: texts are no images.
        let name = match names.as_slice() {
            [only] if ![IMAGE_FEATURES, TEXT_FEATURES].contains(only) => only,
            _ => name,
        };
        let view = tensors.tensor(name).map_err(|_| {
            EvalError::format(
                path,
                format!("no tensor `{name}`; the file has {}", names.join(", ")),
            )
        })?;
        let &[len, dim] = view.shape() else {
            let reason = format!(
                "`{name}` has shape {:?}, expected [items, dim]",
                view.shape()
            );
            return Err(EvalError::format(path, reason));
        };
        let dtype = view.dtype();
        // Without rows nothing in the file bounds their length.
        let known = matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        if !known || !(1..=MAX_DIM).contains(&dim) {
            let reason = format!(
                "`{name}` is {dtype:?} of shape [{len}, {dim}], expected f32, f16 or bf16 and rows of 1 to {MAX_DIM}"
            );
            return Err(EvalError::format(path, reason));
        }
        let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
        let names =
            names::of_rows(&map, side, len).map_err(|what| EvalError::format(path, what))?;
        Ok(Self {
            len,
            dim,
            storage: Storage::Files {
                files: vec![Mapped {
                    map,
                    start,
                    end: len,
                }],
                dtype,
            },
            names,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Floats per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Copies one row into `out` as it is stored.
    ///
    /// # Panics
    ///
    /// Panics if `row` is out of range or `out` is not of length `dim`.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.len, "row {row} of {}", self.len);
        match &self.storage {
            Storage::Memory(values) => {
                out.copy_from_slice(&values[row * self.dim..(row + 1) * self.dim]);
            }
            Storage::Files { files, dtype } => {
                let place = files.partition_point(|file| file.end <= row);
                let before = place.checked_sub(1).map_or(0, |last| files[last].end);
                let Mapped { map, start, .. } = &files[place];
                let len = self.dim * if *dtype == Dtype::F32 { 4 } else { 2 };
                let start = start + (row - before) * len;
                decode(&map[start..start + len], *dtype, out);
            }
        }
    }

    /// Copies one row into `out`, scaled to unit length; a zero row stays zero.
    ///
    /// # Panics
    ///
    /// As [`Features::copy_row`].
    pub fn copy_unit_row(&self, row: usize, out: &mut [f32]) {
        self.copy_row(row, out);
        normalize(out);
    }

    /// All values, row by row.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len * self.dim];
        for (row, out) in values.chunks_exact_mut(self.dim).enumerate() {
            self.copy_row(row, out);
        }
        values
    }

    /// The given rows in the given order.
    ///
    /// # Panics
    ///
    /// Panics if an index is out of range.
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut values = vec![0.0; rows.len() * self.dim];
        for (&row, out) in rows.iter().zip(values.chunks_exact_mut(self.dim)) {
            self.copy_row(row, out);
        }
        Self {
            len: rows.len(),
            dim: self.dim,
            storage: Storage::Memory(values),
            names: None,
        }
    }

    /// Fails at the first row that holds a NaN or an infinity: no rank can be computed from it.
    pub fn check_finite(&self, what: &str) -> Result<()> {
        let mut values = vec![0.0; self.dim];
        for row in 0..self.len {
            self.copy_row(row, &mut values);
            if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
                return Err(EvalError::Features(format!(
                    "{what} {row} has the value {bad}"
                )));
            }
        }
        Ok(())
    }
}

/// Scales a vector to unit length; the norm is kept above 1e-12 as `F.normalize` does.
pub fn normalize(values: &mut [f32]) {
    // f64: the result must not depend on how a compiler orders a sum of f32.
    let norm = values
        .iter()
        .map(|&v| f64::from(v) * f64::from(v))
        .sum::<f64>()
        .sqrt();
    let scale = (1.0 / norm.max(1e-12)) as f32;
    values.iter_mut().for_each(|v| *v *= scale);
}

/// Writes named tables into one safetensors file of f32.
pub fn save(path: &Path, tables: &[(&str, &Features)]) -> Result<()> {
    let bytes: Vec<Vec<u8>> = tables
        .iter()
        .map(|(_, table)| {
            table
                .to_vec()
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect()
        })
        .collect();
    let mut views = BTreeMap::new();
    for ((name, table), bytes) in tables.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, vec![table.len, table.dim], bytes)
            .map_err(|e| EvalError::Features(format!("{name}: {e}")))?;
        views.insert(*name, view);
    }
    let file = safetensors::serialize(views, None)
        .map_err(|e| EvalError::format(path, format!("cannot serialize: {e}")))?;
    files::write(path, &file)
}

fn decode(bytes: &[u8], dtype: Dtype, out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            for (o, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *o = f32::from_le_bytes(*b);
            }
        }
        Dtype::F16 => {
            // Some at a time: one by one, each would ask anew what the CPU can do.
            let mut halves = [f16::ZERO; 64];
            for (out, bytes) in out.chunks_mut(64).zip(bytes.chunks(128)) {
                for (half, b) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *half = f16::from_le_bytes(*b);
                }
                halves[..out.len()].convert_to_f32_slice(out);
            }
        }
        _ => {
            for (o, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *o = bf16::from_le_bytes(*b).to_f32();
            }
        }
    }
}

mod fits;
mod names;
mod npy;
pub(crate) use fits::check_fits;
pub use names::Arranged;

#[cfg(test)]
mod tests;
