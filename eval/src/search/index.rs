//! Image embeddings in a file, with what a search needs to know about them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clip::checkpoint::{HostTensor, StateDict, write_safetensors_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scan::nearest;
use super::top::Hit;
use crate::error::{EvalError, Result};
use crate::features::{Features, IMAGE_FEATURES, IMAGE_PATHS, LOGIT_SCALE};

/// Key of the metadata: an [`IndexModel`].
const MODEL: &str = "model";
/// Key of the metadata: the [`Stamp`] of every image.
const STAMPS: &str = "image_stamps";
/// Key of the metadata: the working directory that relative paths start from.
const MADE_IN: &str = "made_in";

/// The model that made an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexModel {
    /// As whoever made the index called it.
    pub name: String,
    /// What it is, see [`TextEncoder::identity`](crate::TextEncoder::identity).
    pub identity: Option<String>,
    /// How it was loaded, in the words of whoever loaded it.
    #[serde(default)]
    pub options: Value,
}

/// The state of an image file by which a change is known: its bytes, and when it was changed, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp(pub u64, pub u64);

impl Stamp {
    /// Of a file as it is now; `None` if it cannot be asked.
    pub fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        let changed = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self(file.len(), changed.as_nanos() as u64))
    }
}

/// Embeddings of images in mapped files: one that [`Update::write`](super::Update::write) wrote, or any that
/// [`Features::open`] reads.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    features: Features,
    model: Option<IndexModel>,
    stamps: Option<Vec<Stamp>>,
    made_in: Option<PathBuf>,
}

impl Index {
    /// Opens a file; rows are read when they are searched.
    ///
    /// # Errors
    ///
    /// Names the file, what is wrong with it, and how to make another one.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).map_err(|error| match error {
            EvalError::Format { path, reason } => {
                let remedy = "remove the file and make the index again with `search build`";
                EvalError::format(&path, format!("{reason}; {remedy}"))
            }
            other => other,
        })
    }

    fn read(path: &Path) -> Result<Self> {
        let features = Features::open(path, IMAGE_FEATURES)?;
        let metadata =
            match path.is_dir() || path.extension().is_some_and(|extension| extension == "npy") {
                true => HashMap::new(),
                false => metadata(path)?,
            };
        let stamps: Option<Vec<Stamp>> = parse(&metadata, STAMPS, path)?;
        let named = features.names().map_or(0, <[_]>::len);
        if let Some(stamps) = stamps.as_ref().filter(|stamps| stamps.len() != named) {
            let reason = format!(
                "`{STAMPS}` of the metadata has {} entries for {named} images",
                stamps.len()
            );
            return Err(EvalError::format(path, reason));
        }
        Ok(Self {
            path: path.into(),
            features,
            model: parse(&metadata, MODEL, path)?,
            stamps,
            made_in: metadata.get(MADE_IN).map(PathBuf::from),
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// True if there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The embeddings.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The model that made it, if the file knows.
    pub fn model(&self) -> Option<&IndexModel> {
        self.model.as_ref()
    }

    /// The image file of a row, as it is found from here; `None` where rows have no names.
    pub fn image(&self, row: usize) -> Option<PathBuf> {
        let path = Path::new(self.features.names()?.get(row)?);
        Some(match &self.made_in {
            Some(made_in) if std::env::current_dir().is_ok_and(|here| here != *made_in) => {
                made_in.join(path)
            }
            _ => path.into(),
        })
    }

    /// The place and the state of every image when it was embedded; `None` if the file does not say.
    pub(super) fn images(&self) -> Option<impl Iterator<Item = (PathBuf, Stamp)> + '_> {
        let (names, stamps) = (self.features.names()?, self.stamps.as_ref()?);
        let made_in = self.made_in.as_deref().unwrap_or(Path::new(""));
        let places = names.iter().map(|name| made_in.join(name));
        Some(places.zip(stamps.iter().copied()))
    }

    /// Refuses a model that did not make this index. Of one whose identity is not known the name must be the same. An index
    /// that does not know its model takes any.
    ///
    /// # Errors
    ///
    /// Names both models.
    pub fn check_model(&self, model: &IndexModel) -> Result<()> {
        let Some(own) = &self.model else {
            return Ok(());
        };
        let (what, same) = match (&own.identity, &model.identity) {
            (Some(own), Some(given)) => (
                format!(", whose weights and preprocessing are others ({given}, not {own})"),
                own == given,
            ),
            _ => (
                String::new(),
                own.name == model.name && own.options == model.options,
            ),
        };
        if same {
            return Ok(());
        }
        let reason = format!(
            "this index was made with the model {}, and is asked for {}{what}; use that model, or make another index",
            own.name, model.name
        );
        Err(EvalError::format(&self.path, reason))
    }

    /// The `k` images of the highest cosine with each query, best first; see [`nearest`].
    ///
    /// # Errors
    ///
    /// As [`nearest`], and names the file.
    pub fn search(&self, queries: &Features, k: usize) -> Result<Vec<Vec<Hit>>> {
        nearest(&self.features, queries, k).map_err(|error| match error {
            EvalError::Features(reason) => EvalError::format(&self.path, reason),
            other => other,
        })
    }
}

/// What an index is written from.
pub(super) struct Content {
    /// Of each row.
    pub images: Vec<String>,
    /// Of each row.
    pub stamps: Vec<Stamp>,
    /// `[images, dim]`, unit rows.
    pub rows: Vec<f32>,
    pub dim: usize,
    /// The factor by which cosines become logits.
    pub scale: f32,
    pub model: IndexModel,
}

impl Content {
    /// Writes the file; it appears whole or not at all.
    pub fn write(self, path: &Path) -> Result<()> {
        let shape = [self.images.len(), self.dim];
        let made_in = std::env::current_dir().map_err(EvalError::io(path))?;
        let metadata = BTreeMap::from([
            (IMAGE_PATHS.to_owned(), json(&self.images, path)?),
            (STAMPS.to_owned(), json(&self.stamps, path)?),
            (MODEL.to_owned(), json(&self.model, path)?),
            (MADE_IN.to_owned(), made_in.display().to_string()),
        ]);
        let tensors = StateDict::from_iter([
            (
                IMAGE_FEATURES.to_owned(),
                HostTensor::from_values(self.rows, shape),
            ),
            (
                LOGIT_SCALE.to_owned(),
                HostTensor::from_values(vec![self.scale], [1]),
            ),
        ]);
        write_safetensors_with(path, &tensors, &metadata).map_err(|error| match error {
            clip::Error::Io { path, source } => EvalError::Io { path, source },
            clip::Error::Format { path, problem } => EvalError::format(&path, problem),
            other => EvalError::format(path, other.to_string()),
        })
    }
}

fn json(value: &impl Serialize, path: &Path) -> Result<String> {
    serde_json::to_string(value).map_err(|error| EvalError::format(path, error.to_string()))
}

/// The texts in the head of a file that [`Features::open`] has found whole.
fn metadata(path: &Path) -> Result<HashMap<String, String>> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "__metadata__", default)]
        metadata: HashMap<String, String>,
    }
    let head = || {
        let mut file = File::open(path)?;
        let mut len = [0; 8];
        file.read_exact(&mut len)?;
        let mut head = Vec::new();
        file.take(u64::from_le_bytes(len)).read_to_end(&mut head)?;
        Ok(head)
    };
    let head = head().map_err(EvalError::io(path))?;
    let head: Head = serde_json::from_slice(&head)
        .map_err(|error| EvalError::format(path, format!("not a safetensors file: {error}")))?;
    Ok(head.metadata)
}

fn parse<T: DeserializeOwned>(
    metadata: &HashMap<String, String>,
    key: &str,
    path: &Path,
) -> Result<Option<T>> {
    let Some(json) = metadata.get(key) else {
        return Ok(None);
    };
    let value = serde_json::from_str(json)
        .map_err(|error| EvalError::format(path, format!("`{key}` of the metadata: {error}")))?;
    Ok(Some(value))
}
