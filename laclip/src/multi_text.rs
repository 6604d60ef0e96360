//! LaCLIP-MT: all texts of an image are positives in one step (the paper's multi-text loss; never released).

use burn::prelude::*;
use burn::tensor::activation::softplus;
use burn::tensor::backend::AutodiffBackend;
use clip::loss::{by_rows, cross_entropy_from, logits};
use serde::{Deserialize, Serialize};
use std::ops::Range;

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

/// The share of some rows in the multi-text loss of `n` images with `m` texts each, in chunks (see
/// [`clip::loss::by_rows`]). With one text per image it is CLIP's loss in every form.
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
pub fn multi_text<B: AutodiffBackend>(
    rows: Range<usize>,
    image: Tensor<B, 2>,
    texts: Vec<Tensor<B, 2>>,
    logit_scale: Tensor<B, 1>,
    form: MultiText,
) -> Tensor<B, 1> {
    let n = image.dims()[0];
    multi_text_in(
        by_rows::rows_of(n * texts.len()),
        rows,
        image,
        texts,
        logit_scale,
        form,
    )
}

/// [`multi_text`] with so many rows in a chunk.
///
/// # Panics
///
/// When there are no texts.
pub fn multi_text_in<B: AutodiffBackend>(
    chunk: usize,
    rows: Range<usize>,
    image: Tensor<B, 2>,
    texts: Vec<Tensor<B, 2>>,
    logit_scale: Tensor<B, 1>,
    form: MultiText,
) -> Tensor<B, 1> {
    assert!(!texts.is_empty(), "a multi-text loss needs texts");
    let (n, slots) = (image.dims()[0], texts.len());
    let inputs = [vec![image], texts].concat();
    by_rows::in_chunks(
        rows,
        chunk,
        inputs,
        vec![logit_scale],
        |rows, all, scale| {
            let [image, texts @ ..] = all else {
                unreachable!("an image and its texts were given")
            };
            let logits = |from: &Tensor<B, 2>, to: &Tensor<B, 2>| {
                let from = from.clone().narrow(0, rows.start, rows.len());
                logits(from, to.clone(), scale[0].clone())
            };
            let to_image = texts
                .iter()
                .map(|text| cross_entropy_from(rows.start, logits(text, image)));
            let of_slots = texts.iter().map(|text| logits(image, text)).collect();
            (sum(to_image) + to_text(rows.start, of_slots, form)) * (0.5 / (n * slots) as f64)
        },
    )
}

/// Cross-entropy of some images' texts, summed over images and slots.
///
/// # Shapes
///
/// - slots: for each slot `[rows, n]`; the right text of row `i` is in column `start + i`
fn to_text<B: Backend>(start: usize, slots: Vec<Tensor<B, 2>>, form: MultiText) -> Tensor<B, 1> {
    if form == MultiText::PerSlot {
        return sum(slots
            .into_iter()
            .map(|logits| cross_entropy_from(start, logits)));
    }
    let [rows, _] = slots[0].dims();
    let device = slots[0].device();
    let right = start as i64..(start + rows) as i64;
    let own = Tensor::<B, 1, Int>::arange(right, &device).unsqueeze_dim::<2>(1);
    let right: Vec<Tensor<B, 2>> = slots
        .iter()
        .map(|logits| logits.clone().gather(1, own.clone()))
        .collect();
    if form == MultiText::AllTextsAndOwn {
        let all = log_sum_exp(Tensor::cat(slots, 1));
        return sum(right.into_iter().map(|right| (all.clone() - right).sum()));
    }
    // An image's own texts are no answers to one another: out of the sum, each comes back for itself.
    let hidden = Tensor::<B, 2>::full([rows, 1], -1e9, &device);
    let others = slots.into_iter().zip(&right).map(|(logits, right)| {
        let out = hidden.clone() - right.clone().detach();
        logits.scatter(1, own.clone(), out, burn::tensor::IndexingUpdateOp::Add)
    });
    let others = log_sum_exp(Tensor::cat(others.collect(), 1));
    // -log(exp(right) / (exp(right) + exp(others)))
    sum(right
        .into_iter()
        .map(|right| softplus(others.clone() - right, 1.0).sum()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Autodiff;
    use burn_flex::Flex;
    use clip::loss::contrastive;
    use clip::nn::l2_normalize;

    type Train = Autodiff<Flex>;

    const FORMS: [MultiText; 3] = [
        MultiText::PerSlot,
        MultiText::AllTexts,
        MultiText::AllTextsAndOwn,
    ];

    /// Unit rows that differ by `seed`.
    fn rows(seed: u32) -> Tensor<Train, 2> {
        let values = (0..12).map(|i| ((i * 7 + seed * 5) as f32).sin());
        let values = TensorData::new(values.collect(), [4, 3]);
        l2_normalize(Tensor::from_data(values, &Default::default()))
    }

    fn value(image: u32, texts: &[u32], form: MultiText) -> f32 {
        let scale = Tensor::from_data([3.0], &Default::default());
        let texts = texts.iter().map(|&t| rows(t)).collect();
        multi_text(0..4, rows(image), texts, scale, form).into_scalar()
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

    #[test]
    fn chunks_of_rows_give_the_same_value_and_gradients() {
        for form in FORMS {
            let measured = |chunk: usize| {
                let leaf = |seed: u32| rows(seed).require_grad();
                let scale = Tensor::from_data([3.0], &Default::default()).require_grad();
                let (image, texts) = (leaf(1), vec![leaf(2), leaf(5), leaf(9)]);
                let loss = multi_text_in(
                    chunk,
                    0..4,
                    image.clone(),
                    texts.clone(),
                    scale.clone(),
                    form,
                );
                let grads = loss.backward();
                let mut values = vec![
                    loss.into_scalar(),
                    scale.grad(&grads).unwrap().into_scalar(),
                ];
                for leaf in [vec![image], texts].concat() {
                    values.extend(leaf.grad(&grads).unwrap().into_data().iter::<f32>());
                }
                values
            };
            let whole = measured(4);
            for chunk in [1, 2, 3] {
                for (a, b) in measured(chunk).iter().zip(&whole) {
                    assert!(
                        (a - b).abs() < 1e-6,
                        "{form:?} in chunks of {chunk}: {a} {b}"
                    );
                }
            }
        }
    }
}
