//! From samples to batches of images and their texts.

use super::contrastive::ImageTextBatch;
use crate::error::BoxError;
use crate::feed::Prepare;
use clip::preprocess::{Augment, PixelBatch, RgbImage, decode};
use clip::tokenizer::Tokenizer;
use data::{CaptionMix, Captions, CollateError, Sample};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Which texts of an image take part in a step.
pub trait TextChoice: Clone + Send + Sync + 'static {
    /// The texts, equally many for every image; `None` if the captions have none to offer.
    fn choose(&self, captions: &Captions, rng: &mut dyn RngCore) -> Option<Vec<String>>;
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
