//! Scenes as training data, drawn when they are asked for.

use std::io::Cursor;

use image::ImageFormat;
use serde::{Deserialize, Serialize};

use super::{Scenes, ScenesConfig, ScenesError, Split};
use crate::error::DataError;
use crate::report::{CaptionCounts, SourceReport};
use crate::sample::{CaptionKind, Captions, Sample};
use crate::source::{Source, out_of_range};

/// Which images of which world, and with how many rewrites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScenesSourceConfig {
    /// Which images. Default train.
    pub split: Split,
    /// How many of the four rewrites a sample has, in the order of the styles. Default 4.
    pub rewrites: usize,
    /// The world.
    pub world: ScenesConfig,
}

impl Default for ScenesSourceConfig {
    fn default() -> Self {
        Self {
            split: Split::Train,
            rewrites: 4,
            world: ScenesConfig::default(),
        }
    }
}

/// The samples of one split, as they would be read from the files that [`write`](super::write) makes: the web caption,
/// its rewrites and the synthetic caption, and the class.
#[derive(Clone, Debug)]
pub struct ScenesSource {
    world: Scenes,
    split: Split,
    rewrites: usize,
}

impl ScenesSource {
    /// A split of a world.
    ///
    /// # Errors
    ///
    /// When a setting is out of its range, or the split has no images.
    pub fn open(config: ScenesSourceConfig) -> Result<Self, DataError> {
        let world = Scenes::new(config.world)?;
        let refused = |field, value: usize, allowed: &str| ScenesError::Setting {
            field,
            value: value.to_string(),
            allowed: allowed.into(),
        };
        if world.is_empty(config.split) {
            return Err(refused("the size of the split", 0, "at least 1").into());
        }
        if config.rewrites > 4 {
            return Err(refused("rewrites", config.rewrites, "0 to 4").into());
        }
        Ok(Self {
            world,
            split: config.split,
            rewrites: config.rewrites,
        })
    }
}

impl Source for ScenesSource {
    fn len(&self) -> usize {
        self.world.len(self.split)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        if index >= self.len() {
            return Err(out_of_range(self, index));
        }
        let sample = self.world.sample(self.split, index);
        let mut image = Cursor::new(Vec::new());
        sample
            .image
            .write_to(&mut image, ImageFormat::Bmp) // the cheapest to write and to read
            .map_err(|source| ScenesError::Encode {
                key: sample.key.clone(),
                source,
            })?;
        let mut captions = Captions::default();
        captions.push(CaptionKind::Web, sample.captions.web);
        for rewrite in sample.captions.rewrites.into_iter().take(self.rewrites) {
            captions.push(CaptionKind::Rewrite, rewrite);
        }
        captions.push(CaptionKind::Synthetic, sample.captions.synthetic);
        Ok(Sample {
            key: sample.key,
            image: image.into_inner(),
            captions,
            label: Some(sample.label),
            embeddings: None,
        })
    }

    fn name(&self) -> String {
        format!("scenes ({})", self.split.name())
    }

    fn reports(&self) -> Vec<SourceReport> {
        let len = self.len();
        vec![SourceReport {
            name: self.name(),
            samples: len,
            captions: Some(CaptionCounts {
                samples: len,
                web: len,
                rewrites: len * self.rewrites,
                synthetic: len,
                without: 0,
            }),
            dropped: Vec::new(),
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ScenesSourceConfig {
        ScenesSourceConfig {
            rewrites: 2,
            world: ScenesConfig {
                image_size: 32,
                train_size: 5,
                ..ScenesConfig::default()
            },
            ..ScenesSourceConfig::default()
        }
    }

    #[test]
    fn a_sample_is_what_the_world_draws_and_says() {
        let source = ScenesSource::open(config()).unwrap();
        let sample = source.get(3).unwrap();
        let drawn = source.world.sample(Split::Train, 3);
        let pixels = image::load_from_memory(&sample.image).unwrap().to_rgb8();
        assert_eq!(pixels, drawn.image);
        assert_eq!(sample.captions.web, [drawn.captions.web]);
        assert_eq!(sample.captions.rewrites, drawn.captions.rewrites[..2]);
        assert_eq!(sample.captions.synthetic, [drawn.captions.synthetic]);
        assert_eq!((source.len(), sample.label), (5, Some(drawn.label)));
        assert!(source.get(5).is_err());
        let report = source.reports()[0].to_string();
        let said = "5 samples; in them 5 web captions, 10 rewrites, 5 synthetic captions";
        assert!(report.ends_with(said), "{report}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let with = |change: fn(&mut ScenesSourceConfig)| {
            let mut config = config();
            change(&mut config);
            ScenesSource::open(config).unwrap_err().to_string()
        };
        assert!(with(|c| c.rewrites = 5).contains("rewrites is 5"));
        assert!(with(|c| c.world.image_size = 8).contains("image_size is 8"));
        let empty = with(|c| (c.split, c.world.test_size) = (Split::Test, 0));
        assert!(empty.contains("size of the split is 0"), "{empty}");
    }
}
