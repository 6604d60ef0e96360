//! LaCLIP-MT: all texts of an image are positives in one step (the paper's multi-text loss; never released).

use burn::prelude::*;
use burn::tensor::activation::softplus;
use burn::tensor::backend::AutodiffBackend;
use clip::Clip;
use clip::loss::{contrastive, diagonal_cross_entropy, logits};
use serde::{Deserialize, Serialize};
use std::path::Path;
use train::{BoxError, Contrastive, Embedded, ImageTextBatch, Losses, Pass, Task};

/// Which texts an image's text is told apart from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MultiText {
    /// The texts in the same place of the other images: the mean over places of CLIP's loss. The paper's form.
    PerSlot,
    /// All texts of the other images, not the image's own other texts.
    AllTexts,
    /// All texts of all images, its own other ones too (Hsieh et al., 2024, arXiv 2407.06723, section 4.2).
    AllTextsAndOwn,
}

/// Multi-text loss of `n` images with `m` texts each. With one text per image it is CLIP's loss in every form.
///
/// Text to image, each text is told apart among all images, and the mean is taken over all texts; the paper leaves open
/// whether it takes all texts or one.
///
/// # Shapes
///
/// - image: `[n, embed_dim]`, unit rows
/// - texts: `m` times `[n, embed_dim]`, unit rows: row `i` of each belongs to image `i`
/// - logit_scale: `[1]`, the factor itself
/// - output: `[1]`
///
/// # Panics
///
/// When there are no texts.
pub fn multi_text<B: Backend>(
    image: Tensor<B, 2>,
    texts: Vec<Tensor<B, 2>>,
    logit_scale: Tensor<B, 1>,
    form: MultiText,
) -> Tensor<B, 1> {
    assert!(!texts.is_empty(), "a multi-text loss needs texts");
    let slots = texts.len() as f64;
    if form == MultiText::PerSlot {
        let per_slot = texts
            .into_iter()
            .map(|text| contrastive(image.clone(), text, logit_scale.clone()));
        return sum(per_slot) / slots;
    }
    let slot_logits: Vec<_> = texts
        .into_iter()
        .map(|text| logits(image.clone(), text, logit_scale.clone()))
        .collect();
    let to_image = sum(slot_logits
        .iter()
        .map(|logits| diagonal_cross_entropy(logits.clone().transpose())))
        / slots;

    let [n, _] = slot_logits[0].dims();
    let own = Tensor::<B, 2>::eye(n, &image.device());
    let right: Vec<Tensor<B, 2>> = slot_logits
        .iter()
        .map(|logits| (logits.clone() * own.clone()).sum_dim(1))
        .collect();
    let to_text = if form == MultiText::AllTextsAndOwn {
        let all = log_sum_exp(Tensor::cat(slot_logits, 1));
        sum(right.into_iter().map(|right| (all.clone() - right).mean()))
    } else {
        let others = slot_logits
            .into_iter()
            .map(|logits| logits - own.clone() * 1e9);
        let others = log_sum_exp(Tensor::cat(others.collect(), 1));
        // -log(exp(right) / (exp(right) + exp(others)))
        sum(right
            .into_iter()
            .map(|right| softplus(others.clone() - right, 1.0).mean()))
    } / slots;
    (to_image + to_text) * 0.5
}

fn sum<B: Backend>(terms: impl Iterator<Item = Tensor<B, 1>>) -> Tensor<B, 1> {
    terms
        .reduce(|sum, term| sum + term)
        .expect("there is at least one term")
}

/// `[n, m]` → `[n, 1]`.
fn log_sum_exp<B: Backend>(logits: Tensor<B, 2>) -> Tensor<B, 2> {
    let largest = logits.clone().max_dim(1).detach();
    (logits - largest.clone()).exp().sum_dim(1).log() + largest
}

/// Training with the multi-text loss; all but the loss is [`Contrastive`]'s.
#[derive(Clone, Debug)]
pub struct MultiTextTask {
    /// Embedding and export.
    pub base: Contrastive,
    /// Which loss.
    pub form: MultiText,
}

impl<B: AutodiffBackend> Task<B> for MultiTextTask {
    type Model = Clip<B>;
    type Batch = ImageTextBatch;

    fn embed(&self, model: &Clip<B>, batch: &ImageTextBatch, pass: &mut Pass<B>) -> Embedded<B> {
        self.base.embed(model, batch, pass)
    }

    fn loss(&self, model: &Clip<B>, mut embeddings: Vec<Tensor<B, 2>>) -> Losses<B> {
        let image = embeddings.remove(0);
        Losses {
            total: multi_text(image, embeddings, model.scale(), self.form),
            parts: Vec::new(),
        }
    }

    fn samples(&self, batch: &ImageTextBatch) -> usize {
        batch.pixels.n
    }

    fn export(&self, model: &Clip<B>, dir: &Path) -> Result<(), BoxError> {
        self.base.export(model, dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use clip::nn::l2_normalize;

    const FORMS: [MultiText; 3] = [
        MultiText::PerSlot,
        MultiText::AllTexts,
        MultiText::AllTextsAndOwn,
    ];

    /// Unit rows that differ by `seed`.
    fn rows(seed: u32) -> Tensor<Flex, 2> {
        let values = (0..12).map(|i| ((i * 7 + seed * 5) as f32).sin());
        let values = TensorData::new(values.collect(), [4, 3]);
        l2_normalize(Tensor::from_data(values, &Default::default()))
    }

    fn value(image: u32, texts: &[u32], form: MultiText) -> f32 {
        let scale = Tensor::from_data([3.0], &Default::default());
        let texts = texts.iter().map(|&t| rows(t)).collect();
        multi_text(rows(image), texts, scale, form).into_scalar()
    }

    /// The definition, in f64 and with loops.
    fn by_hand(image: u32, texts: &[u32], form: MultiText) -> f64 {
        let host = |t: u32| rows(t).into_data().to_vec::<f32>().unwrap();
        let (image, texts): (_, Vec<_>) = (host(image), texts.iter().map(|&t| host(t)).collect());
        let score = |i: usize, j: usize, k: usize| {
            let dot = |(x, y): (&f32, &f32)| f64::from(*x) * f64::from(*y);
            let (image, text) = (&image[i * 3..i * 3 + 3], &texts[j][k * 3..k * 3 + 3]);
            (3.0 * image.iter().zip(text).map(dot).sum::<f64>()).exp()
        };
        let slots = texts.len();
        let mut total = 0.0;
        for i in 0..4 {
            for j in 0..slots {
                let mut denominator = 0.0;
                for slot in 0..slots {
                    for k in 0..4 {
                        let counts = match form {
                            MultiText::PerSlot => slot == j,
                            MultiText::AllTexts => k != i || slot == j,
                            MultiText::AllTextsAndOwn => true,
                        };
                        denominator += if counts { score(i, slot, k) } else { 0.0 };
                    }
                }
                let images: f64 = (0..4).map(|k| score(k, j, i)).sum();
                let right = score(i, j, i);
                total -= (right / denominator).ln() + (right / images).ln();
            }
        }
        total / (2.0 * 4.0 * slots as f64)
    }

    #[test]
    fn every_form_is_its_definition() {
        for form in FORMS {
            for texts in [&[2][..], &[2, 5, 9]] {
                let (found, expected) = (value(1, texts, form), by_hand(1, texts, form));
                assert!(
                    (f64::from(found) - expected).abs() < 1e-5,
                    "{form:?} {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn one_text_per_image_is_the_loss_of_clip() {
        let scale = Tensor::from_data([3.0], &Default::default());
        let clip = contrastive(rows(1), rows(2), scale).into_scalar();
        for form in FORMS {
            assert!((value(1, &[2], form) - clip).abs() < 1e-5, "{form:?}");
        }
        let same_texts = value(1, &[2, 2, 2], MultiText::PerSlot);
        assert!((same_texts - clip).abs() < 1e-5);
    }
}
