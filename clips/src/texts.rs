//! The texts of an image and the tokens that its captioner shall say (section 3 of the paper; OpenVision's `bert_ops.py`).

use crate::error::Error;
use crate::reduce::{Reduction, truncation};
use crate::sentences::sentences;
use clip::preprocess::{Augment, PixelBatch, RgbImage, decode};
use clip::tokenizer::{TokenBatch, Tokenizer, TokenizerError};
use data::{Captions, CollateError, Sample};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use train::{BoxError, Prepare};

/// A text that is compared with the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caption {
    /// The first web caption.
    Web,
    /// All synthetic captions in a row, cut where the context ends.
    Full,
    /// What [`Reduction`] leaves of them, drawn anew at every visit.
    Partial,
}

impl Caption {
    /// The name in recipes and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Full => "full",
            Self::Partial => "partial",
        }
    }
}

/// Images, the texts of each, and what their captioner shall say.
#[derive(Clone, Debug)]
pub struct ClipsBatch {
    /// Preprocessed images.
    pub pixels: PixelBatch,
    /// The first texts of all images in their order, then the second ones, and so on.
    pub texts: TokenBatch,
    /// For each image the tokens of the full caption, the end included; empty without a captioner.
    pub targets: Vec<Vec<i32>>,
}

/// Which texts a model is trained on.
#[derive(Clone, Debug)]
pub struct Texts {
    /// Tokenizer of the model.
    pub tokenizer: Tokenizer,
    /// The texts of an image, in this order.
    pub captions: Vec<Caption>,
    /// How the partial caption comes about.
    pub reduction: Reduction,
    /// Tokens that a captioner says at most, its end included; absent: there is none.
    pub queries: Option<usize>,
}

/// The texts of one image as rows of ids, and the tokens of its full caption.
pub type Drawn = (Vec<Vec<i32>>, Vec<i32>);

impl Texts {
    /// The texts of an image. Without a synthetic caption the web caption takes its place, whole.
    ///
    /// # Errors
    ///
    /// When a caption is wanted and not there, or the tokenizer cannot read or frame it.
    pub fn draw(&self, captions: &Captions, rng: &mut impl Rng) -> Result<Drawn, BoxError> {
        let web = captions.web.first().map(String::as_str);
        let synthetic = captions.synthetic.join(" ");
        let full = match sentences(&synthetic, self.reduction.splitting).is_empty() {
            false => Some(synthetic.as_str()),
            true => None,
        };
        let some_full = || full.or(web).ok_or("neither a synthetic nor a web caption");
        let mut rows = Vec::with_capacity(self.captions.len());
        for caption in &self.captions {
            rows.push(match caption {
                Caption::Web => self.row(web.ok_or("no web caption")?)?,
                Caption::Full => self.row(some_full()?)?,
                Caption::Partial => {
                    let pieces = match full {
                        Some(full) => {
                            self.reduction
                                .pieces(full, &self.tokenizer, self.room(), rng)?
                        }
                        None => {
                            let room = self.reduction.budget.unwrap_or(usize::MAX);
                            truncation(self.tokenizer.pieces(some_full()?)?, room)
                        }
                    };
                    self.tokenizer.frame(&pieces)?
                }
            });
        }
        let target = match self.queries {
            Some(queries) => target(&self.tokenizer, some_full()?, queries)?,
            None => Vec::new(),
        };
        Ok((rows, target))
    }

    fn row(&self, text: &str) -> Result<Vec<i32>, TokenizerError> {
        Ok(self.tokenizer.batch(&[text])?.ids)
    }

    /// Places for words beside the special tokens.
    fn room(&self) -> usize {
        let special = self
            .tokenizer
            .frame_ids()
            .map_or(0, |frame| 2 + usize::from(frame.class.is_some()));
        self.tokenizer.context_length().saturating_sub(special)
    }
}

/// The tokens of a caption without the one that opens it, and with the one that closes it. As in OpenVision at most one less
/// than there are queries: there the first of so many ids is taken away.
///
/// # Errors
///
/// If the tokenizer cannot read the caption, or knows no token that closes it.
pub fn target(tokenizer: &Tokenizer, text: &str, queries: usize) -> Result<Vec<i32>, Error> {
    let frame = tokenizer
        .frame_ids()
        .ok_or_else(|| Error::Config(NO_FRAME.into()))?;
    let mut ids = truncation(tokenizer.pieces(text)?, queries.saturating_sub(2));
    ids.push(frame.end);
    Ok(ids)
}

/// For each of the first `count` tokens of captions the one before it, row by row; behind the end of a caption anything.
pub fn previous(targets: &[Vec<i32>], start: i32, count: usize) -> Vec<i32> {
    let before = |target: &Vec<i32>, place: usize| match place {
        0 => start,
        place => target.get(place - 1).copied().unwrap_or(0),
    };
    let rows = targets.iter();
    rows.flat_map(|target| (0..count).map(move |place| before(target, place)))
        .collect()
}

/// Why a model can have no captioner.
pub(crate) const NO_FRAME: &str = "a captioner needs a tokenizer that opens and closes a text by tokens of their own: CLIP's, or \
                                   one with tokenizer_mode = \"clips\"";

/// Makes batches.
#[derive(Clone)]
pub struct ClipsPairs {
    /// Training augmentation.
    pub augment: Augment,
    /// Which texts are used.
    pub texts: Texts,
}

impl Prepare for ClipsPairs {
    type Item = (RgbImage, Drawn);
    type Batch = ClipsBatch;

    /// Decodes and augments an image and draws its texts. Each has a generator of its own, so that another choice of texts
    /// leaves the crops as they are.
    fn item(&self, sample: Sample, rng: &mut ChaCha8Rng) -> Result<Self::Item, BoxError> {
        let mut of_texts = ChaCha8Rng::from_seed(rng.random());
        let drawn = self.texts.draw(&sample.captions, &mut of_texts)?;
        let image = decode(&sample.image)?;
        Ok((self.augment.apply(&image, rng), drawn))
    }

    fn batch(&self, items: Vec<Self::Item>) -> Result<ClipsBatch, CollateError> {
        let (images, drawn): (Vec<RgbImage>, Vec<Drawn>) = items.into_iter().unzip();
        let (rows, targets): (Vec<Vec<Vec<i32>>>, Vec<Vec<i32>>) = drawn.into_iter().unzip();
        let slot = |slot: usize| rows.iter().flat_map(move |rows| rows[slot].iter().copied());
        let slots = self.texts.captions.len();
        Ok(ClipsBatch {
            texts: TokenBatch {
                ids: (0..slots).flat_map(slot).collect(),
                n: slots * images.len(),
                context_length: self.texts.tokenizer.context_length(),
            },
            pixels: PixelBatch::of(images),
            targets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::CaptionKind;

    const END: i32 = 49407;

    fn texts(captions: &[Caption]) -> Texts {
        Texts {
            tokenizer: Tokenizer::clip().with_context_length(8).unwrap(),
            captions: captions.to_vec(),
            reduction: Reduction::default(),
            queries: Some(6),
        }
    }

    fn captions(web: &str, synthetic: &[&str]) -> Captions {
        let mut captions = Captions::default();
        captions.push(CaptionKind::Web, web);
        synthetic
            .iter()
            .for_each(|text| captions.push(CaptionKind::Synthetic, *text));
        captions
    }

    fn drawn(captions: &Captions) -> (Vec<String>, String) {
        let texts = texts(&[Caption::Web, Caption::Full, Caption::Partial]);
        let (rows, target) = texts
            .draw(captions, &mut ChaCha8Rng::seed_from_u64(1))
            .unwrap();
        assert!(rows.iter().all(|row| row.len() == 8), "{rows:?}");
        let words = |ids: &[i32]| {
            let words = ids
                .iter()
                .copied()
                .filter(|id| ![0, END, END - 1].contains(id));
            texts
                .tokenizer
                .decode(&words.collect::<Vec<_>>())
                .trim()
                .to_string()
        };
        assert_eq!(target.last(), Some(&END));
        (rows.iter().map(|row| words(row)).collect(), words(&target))
    }

    #[test]
    fn synthetic_captions_are_joined_and_one_sentence_is_drawn() {
        let (rows, target) = drawn(&captions("a cat", &["a black cat.", "it sits"]));
        assert_eq!(rows[..2], ["a cat", "a black cat . it sits"]);
        assert!(
            ["a black cat", "it sits"].contains(&rows[2].as_str()),
            "{rows:?}"
        );
        assert_eq!(
            target, "a black cat .",
            "six queries: four words, the end, and one that the first id would have had"
        );
    }

    #[test]
    fn without_a_synthetic_caption_the_web_caption_takes_both_roles() {
        for synthetic in [&[][..], &["..", " ! "]] {
            let (rows, target) = drawn(&captions("no. 5 is alive", synthetic));
            assert_eq!(rows, ["no . 5 is alive"; 3], "whole, not a sentence of it");
            assert_eq!(target, "no . 5 is");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let texts = texts(&[Caption::Web]);
        let mut captions = Captions::default();
        captions.push(CaptionKind::Synthetic, "a cat");
        let error = texts
            .draw(&captions, &mut ChaCha8Rng::seed_from_u64(1))
            .unwrap_err();
        assert_eq!(error.to_string(), "no web caption");
    }
}
