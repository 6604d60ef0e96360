//! Vectors of captions in a folder of memory-mapped safetensors files.
//!
//! A store holds, for every sample of a source, one vector for each of some captions, the keys of the samples, and hashes
//! of the captions that the vectors were made of. Files of a few thousand samples each appear whole or not at all, and
//! [`INDEX`] comes last, so that an interrupted extraction goes on where it stopped ([`StoreWriter`]). Any source can be
//! joined with stores ([`WithStore`]); a vector is read when its caption has been drawn. Several processes may write a store,
//! each its share of the files; [`merge`] ends their work.

mod join;
mod part;
mod share;
mod write;

pub use join::{StoreRow, WithStore};
pub use part::Row;
pub use share::{MergedStore, StoreWork, merge};
pub use write::StoreWriter;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Place};
use part::Part;

/// The file that makes a folder a store.
pub const INDEX: &str = "store.json";

/// What a store holds, and of what it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreInfo {
    /// Identity of the language model: a digest of its weights, its tokenizer and how it makes a vector of a text.
    pub llm: String,
    /// Where the language model was, for messages.
    pub llm_path: String,
    /// Length of a vector.
    pub width: usize,
    /// How numbers are stored.
    pub dtype: StoreType,
    /// Names of the captions, see [`Captions::named`](crate::Captions::named).
    pub fields: Vec<String>,
    /// Samples.
    pub samples: usize,
    /// Samples in a file; the last one may have fewer.
    pub part: usize,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreType {
    /// Four bytes.
    #[default]
    F32,
    /// Two bytes; loses nothing of what a language model in bf16 gives.
    Bf16,
}

impl StoreType {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl StoreInfo {
    /// Number of files.
    pub fn parts(&self) -> usize {
        self.samples.div_ceil(self.part.max(1))
    }

    fn part_path(folder: &Path, part: usize) -> PathBuf {
        folder.join(format!("{part:05}.safetensors"))
    }
}

/// An opened store.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    info: StoreInfo,
    parts: Vec<Part>,
    by_key: OnceLock<HashMap<u64, u32>>,
    by_caption: OnceLock<HashMap<u64, (u32, u16)>>,
}

impl Store {
    /// Opens the store of a folder.
    ///
    /// # Errors
    ///
    /// Names the file that is missing, cut or of another store.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let index = folder.join(INDEX);
        if !index.is_file() {
            let begun = StoreInfo::part_path(folder, 0).is_file();
            let what = match begun {
                true => {
                    "an extraction that was not finished; run embed_captions again, it goes on, or put its shares together \
                     by embed_captions merge"
                }
                false => "no store of embeddings; make one with embed_captions",
            };
            return Err(DataError::malformed(folder, Place::Whole, what));
        }
        let text = std::fs::read_to_string(&index).map_err(|e| DataError::io(&index, e))?;
        let info: StoreInfo = serde_json::from_str(&text)
            .map_err(|e| DataError::malformed(&index, Place::Whole, e.to_string()))?;
        let fields = 1..=usize::from(u16::MAX);
        if info.part == 0 || info.width == 0 || !fields.contains(&info.fields.len()) {
            let what = "a store without width, fields or samples in a file, or with more fields than a store can have";
            return Err(DataError::malformed(&index, Place::Whole, what));
        }
        let parts = (0..info.parts()).map(|part| Part::open(folder, &info, part));
        Ok(Self {
            parts: parts.collect::<Result<_, _>>()?,
            folder: folder.to_path_buf(),
            info,
            by_key: OnceLock::new(),
            by_caption: OnceLock::new(),
        })
    }

    /// What it holds.
    pub fn info(&self) -> &StoreInfo {
        &self.info
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses a store that another language model made.
    ///
    /// # Errors
    ///
    /// Names both.
    pub fn check_llm(&self, identity: &str, path: &Path) -> Result<(), DataError> {
        if self.info.llm == identity {
            return Ok(());
        }
        let what = format!(
            "these vectors were made by another language model: {} ({}), not {} ({identity}); make the store again with \
             embed_captions",
            self.info.llm_path,
            self.info.llm,
            path.display()
        );
        Err(DataError::malformed(&self.folder, Place::Whole, what))
    }

    /// The row of a sample.
    pub fn row(&self, key: &str) -> Option<usize> {
        let by_key = self.by_key.get_or_init(|| {
            let rows = (0..self.info.samples).map(|row| {
                let (part, at) = self.place(row);
                (part.key(at), row as u32)
            });
            rows.collect()
        });
        by_key.get(&hash(key)).map(|row| *row as usize)
    }

    /// The vector of a text that is among the captions, whatever sample it belongs to.
    ///
    /// # Errors
    ///
    /// Fails if a number is not finite.
    pub fn find(&self, caption: &str) -> Result<Option<Vec<f32>>, DataError> {
        let by_caption = self.by_caption.get_or_init(|| {
            let rows = 0..self.info.samples;
            let all = rows.flat_map(|row| (0..self.info.fields.len()).map(move |f| (row, f)));
            all.map(|(row, field)| (self.caption(row, field), (row as u32, field as u16)))
                .collect()
        });
        let found = by_caption.get(&hash(caption));
        found
            .map(|(row, field)| self.vector(*row as usize, usize::from(*field)))
            .transpose()
    }

    /// The hash of a caption; 0 where the sample has none of this name.
    fn caption(&self, row: usize, field: usize) -> u64 {
        let (part, at) = self.place(row);
        part.caption(at * self.info.fields.len() + field)
    }

    fn vector(&self, row: usize, field: usize) -> Result<Vec<f32>, DataError> {
        let (part, at) = self.place(row);
        let vector = part.vector(at * self.info.fields.len() + field, &self.info);
        match vector.iter().position(|value| !value.is_finite()) {
            None => Ok(vector),
            Some(place) => {
                let (name, value) = (&self.info.fields[field], vector[place]);
                let what =
                    format!("number {place} of the embedding `{name}` is {value}; make it again");
                let row = Place::Row(row as u64);
                Err(DataError::malformed(&self.folder, row, what))
            }
        }
    }

    fn place(&self, row: usize) -> (&Part, usize) {
        (&self.parts[row / self.info.part], row % self.info.part)
    }
}

/// The first eight bytes of a SHA-256; never 0.
pub(crate) fn hash(text: &str) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text.as_bytes());
    let first: [u8; 8] = digest[..8].try_into().expect("32 bytes");
    u64::from_le_bytes(first).max(1)
}

#[cfg(test)]
mod tests;
