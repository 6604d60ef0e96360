//! How well an encoder tells captions apart: of two captions of an image, does one find the other? (CRA of the paper)

use crate::error::{Error, Result};
use burn::prelude::*;
use clip::nn::l2_normalize;
use data::scenes::{Scenes, ScenesConfig, Split};
use eval::datasets::retrieval::{RetrievalOptions, retrieval};
use llm::Encoder;
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
                let pair = |image| {
                    let texts = data.matches.texts_of(image);
                    let text = |place: usize| Some(data.texts[*texts.get(place)? as usize].clone());
                    Some([text(0)?, text(1)?])
                };
                Ok(Some((0..data.images.len()).filter_map(pair).collect()))
            }
        }
    }
}

/// Share of the first captions that are nearer to the second caption of their image than to that of any other.
///
/// # Errors
///
/// When a caption cannot be embedded, or there is none.
pub fn caption_retrieval<B: Backend>(
    encoder: &Encoder<B>,
    pairs: &[[String; 2]],
    batch: usize,
    device: &Device<B>,
) -> Result<f64> {
    let side = |side: usize| {
        let texts: Vec<&String> = pairs.iter().map(|pair| &pair[side]).collect();
        encoder.encode(&texts, batch, device).map(l2_normalize)
    };
    let (queries, targets) = (side(0)?, side(1)?);
    let hits: f64 = (0..pairs.len())
        .step_by(batch)
        .map(|start| {
            let rows = queries
                .clone()
                .narrow(0, start, batch.min(pairs.len() - start));
            let best = rows.matmul(targets.clone().transpose()).argmax(1);
            let best = best.into_data().convert::<i64>();
            let best = best.iter::<i64>().enumerate();
            best.filter(|(row, best)| (start + row) as i64 == *best)
                .count() as f64
        })
        .sum();
    Ok(hits / pairs.len().max(1) as f64)
}
