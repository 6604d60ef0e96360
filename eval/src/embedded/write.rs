//! Bytes of the file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use data::npy::Float;
use serde_json::{Map, Value, json};

use super::share::{SHARE, ShareNote};
use crate::error::{EvalError, Result};
use crate::features::{IMAGE_FEATURES, IMAGE_PATHS, LOGIT_SCALE, TEXT_FEATURES, TEXTS, check_fits};

/// Embeddings in memory, with what they are embeddings of.
#[derive(Clone, Debug, Default)]
pub struct Embedded {
    /// Length of a row.
    pub embed_dim: usize,
    /// Embeddings of the images that could be read, row by row.
    pub images: Vec<f32>,
    /// The path of each, or nothing where images have no paths.
    pub image_paths: Vec<String>,
    /// Embeddings of the texts, row by row.
    pub text_features: Vec<f32>,
    /// The texts.
    pub texts: Vec<String>,
    /// The factor by which cosines become logits.
    pub scale: f32,
    /// How embeddings are kept in the file.
    pub float: Float,
}

impl Embedded {
    /// Writes a safetensors file, whole or not at all: `image_features [n, embed_dim]`, `logit_scale [1]` (always f32) and
    /// `text_features [m, embed_dim]`; the metadata hold `image_paths` and `texts` as JSON lists and, of a share, what
    /// it is a share of.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be written; when a value is no number, or too large for f16.
    ///
    /// # Panics
    ///
    /// Panics if the values make no whole rows.
    pub fn save(&self, path: &Path, share: Option<&ShareNote>) -> Result<()> {
        let rows = |values: &[f32]| {
            assert!(
                values.len().is_multiple_of(self.embed_dim),
                "rows of {}",
                self.embed_dim
            );
            values.len() / self.embed_dim
        };
        check_fits(&self.images, self.float, "image")?;
        check_fits(&self.text_features, self.float, "text")?;
        let header = Header {
            embed_dim: self.embed_dim,
            images: rows(&self.images),
            texts: rows(&self.text_features),
            image_paths: &self.image_paths,
            text_lines: &self.texts,
            share,
            float: self.float,
        };
        header.write(path, |name, file| {
            let mut file = BufWriter::new(file);
            match name {
                LOGIT_SCALE => Float::F32.write(&[self.scale], &mut file)?,
                IMAGE_FEATURES => self.float.write(&self.images, &mut file)?,
                _ => self.float.write(&self.text_features, &mut file)?,
            }
            file.flush()
        })
    }
}

/// What stands in front of the rows.
pub(super) struct Header<'a> {
    pub embed_dim: usize,
    /// Rows of images.
    pub images: usize,
    /// Rows of texts.
    pub texts: usize,
    pub image_paths: &'a [String],
    pub text_lines: &'a [String],
    pub share: Option<&'a ShareNote>,
    /// How embeddings are kept.
    pub float: Float,
}

impl Header<'_> {
    /// Writes a file; `values` writes those of a tensor, by its name.
    pub fn write(
        &self,
        path: &Path,
        mut values: impl FnMut(&str, &mut File) -> io::Result<()>,
    ) -> Result<()> {
        let header = self.json();
        let written = files::write_by(path, |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(header.as_bytes())?;
            for (name, _) in self.tensors() {
                values(name, file)?;
            }
            Ok(())
        });
        written.map_err(EvalError::io(path))
    }

    /// The tensors with their shapes. Four bytes stand before two, so that all lie where their type wants them.
    fn tensors(&self) -> [(&'static str, Vec<usize>); 3] {
        let images = (IMAGE_FEATURES, vec![self.images, self.embed_dim]);
        let scale = (LOGIT_SCALE, vec![1]);
        let texts = (TEXT_FEATURES, vec![self.texts, self.embed_dim]);
        match self.float {
            Float::F32 => [images, scale, texts],
            Float::F16 => [scale, images, texts],
        }
    }

    /// Names in their order, always: the crate `safetensors` writes metadata in an order that chance decides.
    fn json(&self) -> String {
        let list = |names: &[String]| Value::String(json!(names).to_string());
        let mut metadata = Map::new();
        metadata.insert(IMAGE_PATHS.into(), list(self.image_paths));
        if let Some(share) = self.share {
            metadata.insert(SHARE.into(), Value::String(share.json()));
        }
        metadata.insert(TEXTS.into(), list(self.text_lines));
        let mut header = Map::from_iter([("__metadata__".to_string(), Value::Object(metadata))]);
        let mut start = 0;
        for (name, shape) in self.tensors() {
            let float = match name {
                LOGIT_SCALE => Float::F32,
                _ => self.float,
            };
            let dtype = match float {
                Float::F32 => "F32",
                Float::F16 => "F16",
            };
            let end = start + float.size() * shape.iter().product::<usize>();
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
            header.insert(name.into(), entry);
            start = end;
        }
        let mut header = Value::Object(header).to_string();
        let padded = header.len().next_multiple_of(8);
        header.extend(std::iter::repeat_n(' ', padded - header.len()));
        header
    }
}
