//! Captions written by a model, beside those that are there.

use burn::tensor::{Tensor, backend::Backend};
use clip::preprocess::{PixelBatch, Preprocess};
use serde_json::json;

use crate::datasets::caption::CaptionData;
use crate::error::{EvalError, Result};
use crate::extract::{BadImage, Extraction, progress_bar, too_many_bad};
use crate::metrics::caption::{bleu, cider_d, words};
use crate::results::{Captioned, Details, Metrics};
use crate::tasks::Outcome;

/// A model that says what an image shows.
pub trait ImageCaptioner<B: Backend> {
    /// How images are brought to the model's size and range.
    fn preprocess(&self) -> &Preprocess;

    /// A caption for each image.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, 3, height, width]`, preprocessed
    ///
    /// # Errors
    ///
    /// Whatever the model meets.
    fn captions(&self, images: Tensor<B, 4>, web: &[String]) -> Result<Vec<String>>;

    /// How many tokens of given captions the model predicts right, each from the tokens before it where it reads those; and how
    /// many there are.
    ///
    /// # Shapes
    ///
    /// - as [`captions`](Self::captions)
    ///
    /// # Errors
    ///
    /// Whatever the model meets.
    fn token_hits(
        &self,
        images: Tensor<B, 4>,
        web: &[String],
        captions: &[String],
    ) -> Result<[usize; 2]>;
}

/// Which image is shown with a web caption: a model that looks at its images is worse on another one, and on none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Its own.
    #[default]
    Own,
    /// That of another sample: each one's is that of the sample half the set away.
    Another,
    /// None: all pixels have the mean that images are normalised by.
    Nothing,
}

/// Captions in a report.
const EXAMPLES: usize = 12;

/// Has every image captioned and scores what is said: BLEU-4 and CIDEr-D against all references, token accuracy against the
/// first.
///
/// # Errors
///
/// When more than `max_bad` images are unreadable, or the model fails.
pub fn caption<B: Backend, C: ImageCaptioner<B>>(
    model: &C,
    data: &CaptionData,
    shown: Shown,
    options: &Extraction,
    device: &B::Device,
) -> Result<Outcome> {
    let preprocess = model.preprocess();
    let bar = progress_bar(options, data.images.len(), "captions");
    let (mut said, mut kept, mut bad, mut hits) = (Vec::new(), Vec::new(), Vec::new(), [0, 0]);
    let all: Vec<usize> = (0..data.images.len()).collect();
    for batch in all.chunks(options.batch_size.max(1)) {
        let mut images = Vec::new();
        let mut here = Vec::new();
        for &index in batch {
            let of = match shown {
                Shown::Another => (index + all.len() / 2) % all.len(),
                Shown::Own | Shown::Nothing => index,
            };
            match data.images[of].decode() {
                Ok(image) => {
                    images.push(image);
                    here.push(index);
                }
                Err(error) => bad.push(BadImage {
                    index,
                    reason: error.to_string(),
                }),
            }
        }
        if bad.len() > options.max_bad {
            return Err(too_many_bad(&bad, all.len(), options.max_bad));
        }
        if !here.is_empty() {
            let pixels: PixelBatch = preprocess.batch(&images);
            let mut pixels: Tensor<B, 4> = pixels.to_tensor(preprocess.config(), device);
            if shown == Shown::Nothing {
                pixels = pixels.zeros_like();
            }
            let web: Vec<String> = here.iter().map(|index| data.web[*index].clone()).collect();
            let first: Vec<String> = here
                .iter()
                .map(|index| data.references[*index][0].clone())
                .collect();
            let [right, count] = model.token_hits(pixels.clone(), &web, &first)?;
            hits = [hits[0] + right, hits[1] + count];
            said.extend(model.captions(pixels, &web)?);
            kept.append(&mut here);
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    let details = Details {
        images: kept.len(),
        texts: kept.iter().map(|index| data.references[*index].len()).sum(),
        bad_images: bad,
        notes: data.notes.clone(),
        captions: examples(data, &kept, &said),
        ..Details::default()
    };
    Ok(Outcome {
        task: "image_captioning",
        metrics: score(data, &kept, &said, hits)?,
        details,
    })
}

fn score(
    data: &CaptionData,
    kept: &[usize],
    said: &[String],
    [right, count]: [usize; 2],
) -> Result<Metrics> {
    let candidates: Vec<Vec<String>> = said.iter().map(|caption| words(caption)).collect();
    let references: Vec<Vec<Vec<String>>> = kept
        .iter()
        .map(|index| {
            data.references[*index]
                .iter()
                .map(|caption| words(caption))
                .collect()
        })
        .collect();
    let none = || EvalError::Encoder("no image was captioned".into());
    let bleu = bleu(&candidates, &references).ok_or_else(none)?.score;
    let cider = cider_d(&candidates, &references).ok_or_else(none)?.score;
    let mut metrics = Metrics::new();
    metrics.insert("bleu4".into(), json!(bleu));
    metrics.insert("cider_d".into(), json!(cider));
    metrics.insert(
        "token_acc".into(),
        json!((count > 0).then(|| right as f64 / count as f64)),
    );
    Ok(metrics)
}

/// Some of the captions, spread over the set.
fn examples(data: &CaptionData, kept: &[usize], said: &[String]) -> Vec<Captioned> {
    let count = kept.len().min(EXAMPLES);
    (0..count)
        .map(|place| {
            let row = place * kept.len() / count;
            let index = kept[row];
            Captioned {
                image: data.images[index].absolute(),
                web: data.web[index].clone(),
                said: said[row].clone(),
                references: data.references[index].clone(),
            }
        })
        .collect()
}
