//! From samples on disk to batches of images and one text each: the `[data]` table of a recipe.

use crate::contrastive::ImageTextBatch;
use crate::error::{BoxError, Result, TrainError};
use crate::loaded::Loaded;
use clip::preprocess::{Augment, AugmentConfig, PixelBatch, RgbImage, decode};
use clip::tokenizer::Tokenizer;
use data::csv::{CsvConfig, CsvSource};
use data::jsonl::{JsonlConfig, JsonlSource};
use data::scenes::{ScenesSource, ScenesSourceConfig};
use data::webdataset::{ShardConfig, ShardSource};
use data::{
    CaptionMix, CollateError, Draw, Loader, LoaderOptions, Mixture, Sample, Sampler, Source,
};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The `[data]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Where samples come from; several are mixed.
    pub sources: Vec<SourceConfig>,
    /// How often each source is visited per epoch; absent: every sample once.
    #[serde(default)]
    pub draw: Option<Draw>,
    /// Which captions are drawn.
    #[serde(default)]
    pub captions: CaptionMix,
    /// Augmentation of the images.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// Samples per batch, threads, and the share of bad samples that is tolerated.
    #[serde(default)]
    pub loader: LoaderOptions,
}

/// One source, by `kind`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceConfig {
    /// Tar shards.
    Webdataset(ShardConfig),
    /// A table of image paths and captions, with LaCLIP's rewrite files.
    Csv(CsvConfig),
    /// One JSON object per line.
    Jsonl(JsonlConfig),
    /// The built-in captioned world.
    Scenes(ScenesSourceConfig),
}

impl DataConfig {
    /// Makes all relative paths start at `folder`, the recipe's.
    pub fn relative_to(mut self, folder: &Path) -> Self {
        let absolute = |path: &mut PathBuf| *path = folder.join(&*path);
        let root = |root: &mut Option<PathBuf>| {
            *root = Some(
                root.as_ref()
                    .map_or(folder.to_path_buf(), |root| folder.join(root)),
            );
        };
        for source in &mut self.sources {
            match source {
                SourceConfig::Webdataset(config) => root(&mut config.root),
                SourceConfig::Csv(config) => {
                    absolute(&mut config.path);
                    config.rewrites.iter_mut().for_each(absolute);
                    root(&mut config.root);
                }
                SourceConfig::Jsonl(config) => {
                    absolute(&mut config.path);
                    root(&mut config.root);
                }
                SourceConfig::Scenes(_) => {}
            }
        }
        self
    }

    /// Opens all sources as one, with the order in which a replica reads it.
    ///
    /// # Errors
    ///
    /// When a source cannot be opened, or the settings contradict each other.
    pub fn open(&self, seed: u64, rank: usize, world: usize) -> Result<(Arc<dyn Source>, Sampler)> {
        if self.sources.is_empty() {
            return Err(TrainError::Config(
                "give at least one [[data.sources]]".into(),
            ));
        }
        let open = |source: &SourceConfig| -> Result<Box<dyn Source>, data::DataError> {
            Ok(match source.clone() {
                SourceConfig::Webdataset(config) => Box::new(ShardSource::open(config)?),
                SourceConfig::Csv(config) => Box::new(CsvSource::open(config)?),
                SourceConfig::Jsonl(config) => Box::new(JsonlSource::open(config)?),
                SourceConfig::Scenes(config) => Box::new(ScenesSource::open(config)?),
            })
        };
        let failed = |source: data::DataError| TrainError::Task {
            what: "opening the data",
            source: source.into(),
        };
        let parts: Vec<_> = self
            .sources
            .iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let mixture = Mixture::new(parts);
        let draw = self.draw.clone().unwrap_or(Draw::Once);
        let sampler = Sampler::mixed(mixture.lens(), draw, seed)
            .and_then(|sampler| sampler.sharded(rank, world))
            .map_err(failed)?;
        Ok((Arc::new(mixture), sampler))
    }
}

/// Makes image–text pairs of samples.
#[derive(Clone)]
pub struct Pairs {
    /// Training augmentation.
    pub augment: Augment,
    /// Tokenizer of the model.
    pub tokenizer: Tokenizer,
    /// Which captions are drawn.
    pub captions: CaptionMix,
}

impl Pairs {
    /// Batches of a source, made by the loader's threads.
    pub fn batches(
        self,
        source: Arc<dyn Source>,
        sampler: Sampler,
        options: LoaderOptions,
    ) -> Loaded<ImageTextBatch> {
        Loaded::new(sampler, options, move |sampler, options| {
            let (prepare, collate) = (self.clone(), self.clone());
            Loader::with_prepare(
                source.clone(),
                sampler,
                options,
                move |sample, rng| prepare.pair(sample, rng),
                move |pairs, _| collate.batch(pairs),
            )
        })
    }

    /// Decodes and augments one image and draws its text.
    ///
    /// # Errors
    ///
    /// When the image cannot be decoded or there is no caption to draw.
    pub fn pair(&self, sample: Sample, rng: &mut impl Rng) -> Result<(RgbImage, String), BoxError> {
        let text = self
            .captions
            .draw(&sample.captions, rng)
            .ok_or("no caption of a wanted kind")?;
        let text = text.to_string();
        let image = decode(&sample.image)?;
        Ok((self.augment.apply(&image, rng), text))
    }

    fn batch(&self, pairs: Vec<(RgbImage, String)>) -> Result<ImageTextBatch, CollateError> {
        let (images, texts): (Vec<RgbImage>, Vec<String>) = pairs.into_iter().unzip();
        let (width, height) = images.first().map_or((0, 0), |image| image.dimensions());
        let n = images.len();
        let pixels = images.into_iter().flat_map(RgbImage::into_raw).collect();
        let pixels = PixelBatch {
            pixels,
            n,
            height: height as usize,
            width: width as usize,
        };
        Ok(ImageTextBatch {
            pixels,
            texts: self.tokenizer.batch(&texts)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_refuses_fields_of_another_kind() {
        let parse = |text: &str| toml::from_str::<DataConfig>(text).map(|_| ());
        assert!(parse("[[sources]]\nkind = \"webdataset\"\nshards = \"a.tar\"").is_ok());
        let wrong = parse("[[sources]]\nkind = \"webdataset\"\nseparator = \",\"").unwrap_err();
        assert!(wrong.to_string().contains("separator"), "{wrong}");
        assert!(
            parse("[[sources]]\nkind = \"zip\"")
                .unwrap_err()
                .to_string()
                .contains("zip")
        );
    }

    #[test]
    fn relative_paths_start_at_the_recipe() {
        let config: DataConfig =
            toml::from_str("[[sources]]\nkind = \"csv\"\npath = \"train.tsv\"").unwrap();
        let config = config.relative_to(Path::new("recipes"));
        let SourceConfig::Csv(csv) = &config.sources[0] else {
            panic!("a CSV was given")
        };
        assert_eq!(csv.path, Path::new("recipes/train.tsv"));
        assert_eq!(csv.root.as_deref(), Some(Path::new("recipes")));
    }
}
