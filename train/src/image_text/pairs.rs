//! From samples to batches of images and their texts.

use super::contrastive::ImageTextBatch;
use crate::error::BoxError;
use crate::feed::Prepare;
use clip::preprocess::{Augment, PixelBatch, RgbImage, decode};
use clip::tokenizer::Tokenizer;
use data::{CaptionMix, Captions, CollateError, Sample, Source};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Which texts of an image take part in a step.
pub trait TextChoice: Clone + Send + Sync + 'static {
    /// The texts, equally many for every image; `None` if the captions have none to offer.
    fn choose(&self, captions: &Captions, rng: &mut dyn RngCore) -> Option<Vec<String>>;

    /// Looks at what the source holds, before the first step: whether it has the texts to choose from.
    ///
    /// # Errors
    ///
    /// A sentence that says what was wanted, what was found and what to do.
    fn check(&self, _source: &dyn Source) -> Result<(), String> {
        Ok(())
    }
}

impl TextChoice for CaptionMix {
    fn choose(&self, captions: &Captions, mut rng: &mut dyn RngCore) -> Option<Vec<String>> {
        self.draw(captions, &mut rng).map(|text| vec![text.into()])
    }
}

/// Makes images and texts of samples.
#[derive(Clone)]
pub struct Pairs<T> {
    /// Training augmentation.
    pub augment: Augment,
    /// Tokenizer of the model.
    pub tokenizer: Tokenizer,
    /// Which texts are used.
    pub texts: T,
}

impl<T: TextChoice> Prepare for Pairs<T> {
    type Item = (RgbImage, Vec<String>);
    type Batch = ImageTextBatch;

    fn check(&self, source: &dyn Source) -> Result<(), String> {
        self.texts.check(source)
    }

    /// Decodes and augments one image and chooses its texts. Each has a generator of its own, so that another choice of
    /// texts leaves the crops as they are.
    ///
    /// # Errors
    ///
    /// When the image cannot be decoded or there is no caption to choose.
    fn item(&self, sample: Sample, rng: &mut ChaCha8Rng) -> Result<Self::Item, BoxError> {
        let mut of_texts = ChaCha8Rng::from_seed(rng.random());
        let texts = self
            .texts
            .choose(&sample.captions, &mut of_texts)
            .ok_or("no caption of a wanted kind")?;
        let image = decode(&sample.image)?;
        Ok((self.augment.apply(&image, rng), texts))
    }

    fn batch(&self, items: Vec<Self::Item>) -> Result<ImageTextBatch, CollateError> {
        let (images, texts): (Vec<RgbImage>, Vec<Vec<String>>) = items.into_iter().unzip();
        let slots = texts.first().map_or(0, Vec::len);
        let slot = |slot: usize| {
            let texts: Vec<&str> = texts.iter().map(|texts| texts[slot].as_str()).collect();
            self.tokenizer.batch(&texts)
        };
        Ok(ImageTextBatch {
            pixels: PixelBatch::of(images),
            texts: (0..slots).map(slot).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip::preprocess::AugmentConfig;
    use data::scenes::{ScenesSource, ScenesSourceConfig};

    /// Draws so many numbers before it says always the same.
    #[derive(Clone)]
    struct Drawing(usize);

    impl TextChoice for Drawing {
        fn choose(&self, _: &Captions, rng: &mut dyn RngCore) -> Option<Vec<String>> {
            for _ in 0..self.0 {
                rng.next_u64();
            }
            Some(vec![rng.next_u64().to_string()])
        }
    }

    #[test]
    fn how_texts_are_drawn_leaves_the_crops_as_they_are() {
        let source = ScenesSource::open(ScenesSourceConfig::default()).unwrap();
        let sample = source.get(0).unwrap();
        let item = |draws: usize, seed: u64| {
            let config = AugmentConfig {
                scale: [0.3, 0.6],
                ..AugmentConfig::default()
            };
            let pairs = Pairs {
                augment: Augment::new(config, [16, 16]).unwrap(),
                tokenizer: Tokenizer::clip(),
                texts: Drawing(draws),
            };
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            pairs.item(sample.clone(), &mut rng).unwrap()
        };
        let (image, text) = item(0, 1);
        let (same_image, other_text) = item(9, 1);
        assert_eq!(same_image, image);
        assert_ne!(other_text, text);
        assert_ne!(item(0, 2).0, image, "crops differ at all");
    }
}
