//! From samples to batches of images and vectors of one of their captions.

use clip::preprocess::{Augment, PixelBatch, RgbImage, decode};
use data::{CollateError, Sample, StoredEmbeddings};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use train::{BoxError, Prepare};

/// Images with the vector of one caption each.
#[derive(Clone, Debug)]
pub struct ImageVectorBatch {
    /// Augmented images.
    pub pixels: PixelBatch,
    /// Row by row, `n · width`.
    pub vectors: Vec<f32>,
}

/// How often a caption is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldWeight {
    /// Name of the caption, see [`data::Captions::named`]; upper or lower case does not matter.
    pub field: String,
    /// Relative weight among the captions that the sample has.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// Decodes and augments images, draws a caption and reads its vector.
#[derive(Clone)]
pub struct ImagesAndVectors {
    /// Training augmentation.
    pub augment: Augment,
    /// The captions to draw from.
    pub captions: Arc<[FieldWeight]>,
    /// Length of the vectors.
    pub width: usize,
}

impl ImagesAndVectors {
    fn draw(&self, stored: &StoredEmbeddings, rng: &mut impl Rng) -> Option<&str> {
        let there = stored.fields();
        let has = |field: &str| there.iter().any(|name| name.eq_ignore_ascii_case(field));
        let wanted = self
            .captions
            .iter()
            .filter(|c| c.weight > 0.0 && has(&c.field));
        let total: f64 = wanted.clone().map(|c| c.weight).sum();
        let mut at = rng.random::<f64>() * total;
        let last = wanted.clone().next_back();
        let drawn = wanted.clone().find(|c| {
            at -= c.weight;
            at < 0.0
        });
        drawn.or(last).map(|c| c.field.as_str())
    }
}

impl Prepare for ImagesAndVectors {
    type Item = (RgbImage, Vec<f32>);
    type Batch = ImageVectorBatch;

    /// # Errors
    ///
    /// When the image cannot be decoded, and when the sample has no vector that is wanted, or one of another length.
    fn item(&self, sample: Sample, rng: &mut ChaCha8Rng) -> Result<Self::Item, BoxError> {
        // A generator of its own, so that another choice of captions leaves the crops as they are.
        let mut of_captions = ChaCha8Rng::from_seed(rng.random());
        let stored = sample.embeddings.as_ref();
        let stored =
            stored.ok_or("no stored vectors: name method.stores, or `embeddings` of the shards")?;
        let field = self.draw(stored, &mut of_captions).ok_or_else(|| {
            let there = stored.fields().join(", ");
            format!("no vector of a wanted caption; there are [{there}], method.captions names which are drawn")
        })?;
        let vector = stored.read(field)?;
        if vector.len() != self.width {
            let (found, width) = (vector.len(), self.width);
            return Err(
                format!("the vector of `{field}` has {found} numbers, the others {width}").into(),
            );
        }
        let image = decode(&sample.image)?;
        Ok((self.augment.apply(&image, rng), vector))
    }

    fn batch(&self, items: Vec<Self::Item>) -> Result<ImageVectorBatch, CollateError> {
        let (images, vectors): (Vec<RgbImage>, Vec<Vec<f32>>) = items.into_iter().unzip();
        Ok(ImageVectorBatch {
            pixels: PixelBatch::of(images),
            vectors: vectors.concat(),
        })
    }
}
