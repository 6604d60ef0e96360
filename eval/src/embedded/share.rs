//! What a share says of itself, so that shares of different work are never put together.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use data::npy::Float;
use files::Shard;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{EvalError, Result};
use crate::features::{IMAGE_FEATURES, IMAGE_PATHS, LOGIT_SCALE, TEXT_FEATURES, TEXTS};
use crate::identity::Parts;

/// Its name in the metadata.
pub(super) const SHARE: &str = "share";

/// All that the shares of one file have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Images in the whole list, those that cannot be read included.
    pub images: usize,
    /// Texts in the whole list.
    pub texts: usize,
    /// Images, or texts, at a time.
    pub batch_size: usize,
    /// [`list_digest`] of all of them.
    pub list: String,
    /// [`identity`](crate::TextEncoder::identity) of the model.
    pub model: String,
    /// What else decides the numbers: backend, precision, whether rows are normalised.
    pub options: BTreeMap<String, String>,
}

/// A digest of a list of images, by their paths or by their pixels, and of texts.
pub fn list_digest<'a>(
    images: impl IntoIterator<Item = &'a str>,
    pixels: &[f32],
    texts: impl IntoIterator<Item = &'a str>,
) -> String {
    let mut hash = Parts(Sha256::new());
    let mut add = |kind: &[u8], items: &mut dyn Iterator<Item = &'a str>| {
        hash.add(kind);
        items.for_each(|item| hash.add(item.as_bytes()));
    };
    add(b"images", &mut images.into_iter());
    add(b"texts", &mut texts.into_iter());
    hash.add(b"pixels");
    for value in pixels {
        hash.0.update(value.to_le_bytes());
    }
    hash.finish()
}

impl Work {
    /// The images of a share.
    pub fn images_of(&self, share: Shard) -> Range<usize> {
        share.batches(self.images, self.batch_size)
    }

    /// The texts of a share.
    pub fn texts_of(&self, share: Shard) -> Range<usize> {
        share.batches(self.texts, self.batch_size)
    }

    /// In what other work differs from this; `None` if it is the same.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let mut said = Vec::new();
        let lists = |work: &Self| (work.images, work.texts, work.list.clone());
        if lists(self) != lists(other) {
            said.push(format!(
                "another list ({} images and {} texts, not {} and {}, digest {}, not {})",
                other.images, other.texts, self.images, self.texts, other.list, self.list
            ));
        }
        if self.model != other.model {
            said.push(format!(
                "another model ({}, not {})",
                other.model, self.model
            ));
        }
        if self.batch_size != other.batch_size {
            said.push(format!(
                "batch_size {}, not {}",
                other.batch_size, self.batch_size
            ));
        }
        let mut names: Vec<&String> = self.options.keys().chain(other.options.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let value = |work: &'_ Self| work.options.get(name).cloned().unwrap_or("unset".into());
            if value(self) != value(other) {
                said.push(format!("{name} {}, not {}", value(other), value(self)));
            }
        }
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// What a share says of itself, in the metadata of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareNote {
    share: String,
    /// The images and the texts of the whole list that it holds, for people.
    images: Range<usize>,
    texts: Range<usize>,
    of: Work,
    left_out: Vec<String>,
}

impl ShareNote {
    /// The note of a share of some work. `left_out` says why each image that could not be read was not.
    pub fn new(share: Shard, work: &Work, left_out: Vec<String>) -> Self {
        Self {
            share: share.to_string(),
            images: work.images_of(share),
            texts: work.texts_of(share),
            of: work.clone(),
            left_out,
        }
    }

    /// Why images were left out, one reason each.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Looks for a share that an earlier process made. A file that is cut counts as none.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and when it is a share of other work: says in what that differs.
    pub fn find(path: &Path, share: Shard, work: &Work) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let file = File::open(path).map_err(EvalError::io(path))?;
        let Ok(map) = map(&file) else {
            return Ok(None); // an empty file cannot be mapped
        };
        if SafeTensors::deserialize(&map).is_err() {
            return Ok(None);
        }
        let (there, note) = ShareFile::open(path).map(|(share, file)| (share, file.note))?;
        let difference = match there == share {
            true => work.difference(&note.of),
            false => Some(format!("share {there}, not {share}")),
        };
        match difference {
            None => Ok(Some(note)),
            Some(difference) => Err(EvalError::format(
                path,
                format!(
                    "is there already and holds {difference}; overwrite it, or name another output"
                ),
            )),
        }
    }

    pub(super) fn work(&self) -> &Work {
        &self.of
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("plain fields")
    }
}

/// A share on disk, checked against what it says of itself.
pub(super) struct ShareFile {
    pub note: ShareNote,
    pub embed_dim: usize,
    pub float: Float,
    /// Rows of images and of texts.
    pub rows: [usize; 2],
    pub image_paths: Vec<String>,
    pub texts: Vec<String>,
    map: Mmap,
}

impl ShareFile {
    pub fn open(path: &Path) -> Result<(Shard, Self)> {
        let wrong = |what: String| EvalError::format(path, what);
        let file = File::open(path).map_err(EvalError::io(path))?;
        let map = map(&file).map_err(EvalError::io(path))?;
        let tensors = SafeTensors::deserialize(&map)
            .map_err(|error| wrong(format!("not whole: {error}; make this share again")))?;
        let (_, header) = SafeTensors::read_metadata(&map).map_err(|e| wrong(e.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let json = |name: &str| {
            let missing = || {
                wrong(format!(
                    "no `{name}` in its metadata: no share of embeddings"
                ))
            };
            metadata.get(name).ok_or_else(missing)
        };
        let note: ShareNote = serde_json::from_str(json(SHARE)?)
            .map_err(|error| wrong(format!("`{SHARE}` of its metadata: {error}")))?;
        let share: Shard = note.share.parse().map_err(wrong)?;
        if note.of.batch_size == 0 {
            return Err(wrong(format!(
                "`{SHARE}` of its metadata: a batch_size of 0"
            )));
        }
        let list = |name: &str| -> Result<Vec<String>> {
            serde_json::from_str(json(name)?)
                .map_err(|error| wrong(format!("`{name}` of its metadata: {error}")))
        };
        let (image_paths, texts) = (list(IMAGE_PATHS)?, list(TEXTS)?);
        let table = |name: &str| {
            let tensor = tensors.tensor(name).ok();
            let float = tensor.as_ref().and_then(|tensor| match tensor.dtype() {
                Dtype::F32 => Some(Float::F32),
                Dtype::F16 => Some(Float::F16),
                _ => None,
            });
            match (tensor.as_ref().map(|tensor| tensor.shape()), float) {
                (Some(&[rows, dim]), Some(float)) => Ok((rows, (dim, float))),
                _ => Err(wrong(format!("no table `{name}` in it"))),
            }
        };
        let ((images, kind), (text_rows, text_kind)) =
            (table(IMAGE_FEATURES)?, table(TEXT_FEATURES)?);
        let (embed_dim, float) = kind;
        let scale = tensors.tensor(LOGIT_SCALE).ok();
        let scale = scale.filter(|scale| scale.dtype() == Dtype::F32 && scale.shape() == [1]);
        if scale.is_none() || kind != text_kind || embed_dim == 0 {
            return Err(wrong("not a share that `embed` wrote".into()));
        }
        let expected = [
            note.of.images_of(share).len()
                - note.left_out.len().min(note.of.images_of(share).len()),
            note.of.texts_of(share).len(),
        ];
        let rows = [images, text_rows];
        if rows != expected {
            let what = format!(
                "rows of images and texts: {rows:?}, expected {expected:?}; make this share again"
            );
            return Err(wrong(what));
        }
        for (name, names, rows) in [
            (IMAGE_PATHS, &image_paths, images),
            (TEXTS, &texts, text_rows),
        ] {
            if !names.is_empty() && names.len() != rows {
                let what = format!("`{name}` has {} names for {rows} rows", names.len());
                return Err(wrong(what + "; make this share again"));
            }
        }
        let file = Self {
            note,
            embed_dim,
            float,
            rows,
            image_paths,
            texts,
            map,
        };
        Ok((share, file))
    }

    /// The bytes of a tensor.
    pub fn bytes(&self, name: &str) -> &[u8] {
        let tensors = SafeTensors::deserialize(&self.map).expect("checked in `open`");
        tensors.tensor(name).expect("checked in `open`").data()
    }
}

fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only; as with every mapped file here, nobody may shrink it while it is in use.
    #[allow(unsafe_code)]
    unsafe {
        Mmap::map(file)
    }
}
