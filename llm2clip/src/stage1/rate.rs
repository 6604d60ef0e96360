//! Captions by which stage 1 is validated: of two captions of an image, does one find the other?

use crate::error::{Error, Result};
use data::scenes::{Scenes, ScenesConfig, Split};
use eval::datasets::retrieval::{RetrievalOptions, retrieval};
use eval::tasks::caption_retrieval::caption_pairs;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use train::Section;

/// The `[contrastive.validation]` table: images with at least two captions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptionSet {
    /// A format of `eval retrieval`, such as karpathy.
    pub format: Option<String>,
    /// Its annotation file.
    pub annotations: PathBuf,
    /// Its split.
    pub split: Option<String>,
    /// Or the built-in captioned world, whose validation split is taken.
    pub scenes: Option<ScenesConfig>,
}

impl Section for CaptionSet {
    const NAME: &'static str = "validation";

    fn resolve(&mut self, folder: &Path) {
        self.annotations = folder.join(&self.annotations);
    }
}

impl CaptionSet {
    /// The first two captions of each image; none if no set is named.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or two sets are named.
    pub fn open(&self) -> Result<Option<Vec<[String; 2]>>> {
        match (&self.format, &self.scenes) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Error::Options(
                "[validation] names a format and scenes; remove one of them".into(),
            )),
            (None, Some(world)) => {
                let world = Scenes::new(world.clone()).map_err(data::DataError::from)?;
                let pair = |index| {
                    let [first, second, ..] = world.captions(Split::Validation, index).test;
                    [first, second]
                };
                Ok(Some((0..world.len(Split::Validation)).map(pair).collect()))
            }
            (Some(format), None) => {
                let options = RetrievalOptions {
                    split: self.split.clone().unwrap_or_else(|| "test".into()),
                    ..RetrievalOptions::default()
                };
                let data = retrieval(format, &self.annotations, Path::new(""), &options);
                let data =
                    data.map_err(|error| Error::Options(format!("[validation]: {error}")))?;
                Ok(Some(caption_pairs(&data)))
            }
        }
    }
}
