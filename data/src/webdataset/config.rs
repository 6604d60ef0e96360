//! What of a shard is read as what.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::braces::local_files;
use super::cache::IndexCache;
use super::embeddings::EmbeddingShards;
use super::shard::{Grouped, Part};
use crate::captions::CaptionField;
use crate::error::DataError;
use crate::fetch::{Fetch, Form, local_shards};

/// Which shards are read, and what their members mean. The defaults are open_clip's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardConfig {
    /// A pattern such as `cc3m-{00000..00331}.tar`, see [`expand`](super::expand); several are joined by `::`. Also
    /// `https://..`, `pipe:COMMAND` and `.tar.gz`, see [`fetch`](crate::fetch).
    pub shards: String,
    /// Folder that relative names of shards start from, if not the working directory.
    pub root: Option<PathBuf>,
    /// Extensions of the image, by preference.
    pub image_keys: Vec<String>,
    /// Extension of the web caption; none to read captions from JSON only.
    pub text_key: Option<String>,
    /// Whether the text member holds one caption per line, with `\n` for a line break inside a
    /// caption, as in CLIP_benchmark's retrieval sets.
    pub text_lines: bool,
    /// Caption fields of the `.json` member.
    pub json_fields: Vec<CaptionField>,
    /// Extension of the class index; none where there are no classes.
    pub label_key: Option<String>,
    /// Extensions of further members that [`ShardSource::member`](super::ShardSource::member)
    /// reads.
    pub extra: Vec<String>,
    /// Drop samples without a caption. Turn off for classification sets.
    pub require_caption: bool,
    /// Stored text embeddings beside the shards.
    pub embeddings: Option<EmbeddingShards>,
    /// Where shard indices are kept between runs.
    pub index_cache: IndexCache,
    /// Where shards from elsewhere are kept, and how they are fetched.
    pub fetch: Fetch,
    /// Share of damaged shards, and of dropped samples, above which opening fails.
    pub max_bad: f64,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            shards: String::new(),
            root: None,
            image_keys: ["jpg", "png", "jpeg", "webp"].map(String::from).to_vec(),
            text_key: Some("txt".into()),
            text_lines: false,
            json_fields: Vec::new(),
            label_key: None,
            extra: Vec::new(),
            require_caption: true,
            embeddings: None,
            index_cache: IndexCache::None,
            fetch: Fetch::default(),
            max_bad: 0.1,
        }
    }
}

impl ShardConfig {
    /// The default reading of the shards of a pattern: image and `.txt`.
    pub fn new(shards: impl Into<String>) -> Self {
        Self {
            shards: shards.into(),
            ..Self::default()
        }
    }

    /// A classification set: image and `.cls`.
    pub fn classification(shards: impl Into<String>) -> Self {
        Self {
            text_key: None,
            label_key: Some("cls".into()),
            require_caption: false,
            ..Self::new(shards)
        }
    }

    /// The shards in order, braces expanded; those from elsewhere are fetched, if they were not before.
    ///
    /// # Errors
    ///
    /// Fails if the pattern has no meaning or a shard cannot be fetched.
    pub fn paths(&self) -> Result<Vec<PathBuf>, DataError> {
        if self.embeddings.is_some() {
            return local_files(&self.shards, self.root.as_deref()).map_err(|error| match error {
                DataError::Pattern { pattern, what } => {
                    let what = format!("{what}: stored embeddings lie beside shards that are here");
                    DataError::Pattern { pattern, what }
                }
                other => other,
            });
        }
        local_shards(&self.shards, self.root.as_deref(), &self.fetch, Form::Tar)
    }

    pub(super) fn extensions(&self) -> Result<Extensions, DataError> {
        let mut all: Vec<String> = Vec::new();
        let mut place = |extension: &str| {
            let extension = extension.trim_start_matches('.').to_lowercase();
            all.iter()
                .position(|known| *known == extension)
                .unwrap_or_else(|| {
                    all.push(extension);
                    all.len() - 1
                }) as u8
        };
        let images: Vec<u8> = self.image_keys.iter().map(|key| place(key)).collect();
        let text = self.text_key.as_deref().map(&mut place);
        let json = (!self.json_fields.is_empty()).then(|| place("json"));
        let label = self.label_key.as_deref().map(&mut place);
        self.extra.iter().for_each(|extension| {
            place(extension);
        });
        if all.len() > usize::from(u8::MAX) {
            return Err(DataError::Config(
                "more than 255 member extensions are named".into(),
            ));
        }
        if images.is_empty() {
            return Err(DataError::Config(
                "`image_keys` is empty; name the extension of the images".into(),
            ));
        }
        if text.is_none() && json.is_none() && self.require_caption {
            let what = "captions are required; say in `text_key` or `json_fields` where they are";
            return Err(DataError::Config(what.into()));
        }
        Ok(Extensions {
            all,
            images,
            text,
            json,
            label,
        })
    }
}

/// The extensions that are read, as small numbers.
#[derive(Debug)]
pub(super) struct Extensions {
    pub all: Vec<String>,
    images: Vec<u8>,
    pub text: Option<u8>,
    pub json: Option<u8>,
    pub label: Option<u8>,
}

impl Extensions {
    pub fn find(&self, extension: &str) -> Option<u8> {
        self.all
            .iter()
            .position(|known| known == extension)
            .map(|place| place as u8)
    }

    /// The member of a sample that has this extension.
    pub fn part(&self, sample: Grouped, extension: Option<u8>) -> Option<Part> {
        sample
            .parts
            .iter()
            .find(|part| Some(part.extension) == extension)
            .copied()
    }

    /// The member that is the image.
    pub fn image(&self, sample: Grouped) -> Option<Part> {
        self.images
            .iter()
            .find_map(|image| self.part(sample, Some(*image)))
    }

    /// What a sample lacks to be usable.
    pub fn lacks(&self, sample: Grouped, require_caption: bool) -> Option<&'static str> {
        let has = |extension: Option<u8>| extension.is_some_and(|extension| sample.has(extension));
        if self.image(sample).is_none() {
            Some("the sample has no image")
        } else if require_caption && !has(self.text) && !has(self.json) {
            Some("the sample has no caption")
        } else {
            None
        }
    }
}
