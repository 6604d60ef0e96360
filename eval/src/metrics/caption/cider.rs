//! CIDEr-D of a corpus.

use std::collections::{HashMap, HashSet};

use super::{N, ngrams};

/// Width of the penalty for another length, in words.
const SIGMA: f64 = 6.0;

/// CIDEr-D, of all images and of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Cider {
    /// Mean over the images, from 0 to 10.
    pub score: f64,
    /// The images', in their order.
    pub each: Vec<f64>,
}

/// The n-grams of a caption for one n, weighted by how rare they are.
struct Vector<'a> {
    weights: HashMap<&'a [String], f64>,
    norm: f64,
}

/// CIDEr-D of Vedantam et al. (2015), section 7: the mean over n = 1 to 4 and over the references of the cosine
/// between tf-idf vectors of n-grams, clipped at the reference's, times a Gaussian of the difference in length, times
/// ten.
///
/// The idf comes from the references that are given: from the number of images, and the number of images of which a
/// reference has the n-gram. So scores of different image sets do not compare, and with one image all are 0. Lengths
/// are numbers of bigrams, as in the COCO evaluation (`pycocoevalcap/cider`), with which the numbers agree.
///
/// `references[i]` are those of candidate `i`. `None` without candidates.
///
/// # Panics
///
/// Panics if candidates and references differ in number, or a candidate has no reference.
pub fn cider_d(candidates: &[Vec<String>], references: &[Vec<Vec<String>>]) -> Option<Cider> {
    assert_eq!(
        candidates.len(),
        references.len(),
        "references per candidate"
    );
    assert!(
        references.iter().all(|of| !of.is_empty()),
        "a reference per candidate"
    );
    if candidates.is_empty() {
        return None;
    }
    let mut images_with: HashMap<&[String], usize> = HashMap::new();
    for of_image in references {
        let windows = |n| of_image.iter().flat_map(move |caption| caption.windows(n));
        let distinct: HashSet<&[String]> = (1..=N).flat_map(windows).collect();
        distinct
            .into_iter()
            .for_each(|ngram| *images_with.entry(ngram).or_insert(0) += 1);
    }
    let images = (references.len() as f64).ln();
    let rarity =
        |ngram: &[String]| images - (images_with.get(ngram).copied().unwrap_or(1) as f64).ln();
    let each: Vec<f64> = candidates
        .iter()
        .zip(references)
        .map(|(candidate, references)| {
            let own = vectors(candidate, &rarity);
            let of_reference = |reference: &Vec<String>| {
                let other = vectors(reference, &rarity);
                let cosines: f64 = own
                    .iter()
                    .zip(&other)
                    .map(|(a, b)| clipped_cosine(a, b))
                    .sum();
                cosines * closeness(candidate.len(), reference.len())
            };
            let sum: f64 = references.iter().map(of_reference).sum();
            10.0 * sum / (N * references.len()) as f64
        })
        .collect();
    Some(Cider {
        score: each.iter().sum::<f64>() / each.len() as f64,
        each,
    })
}

fn vectors<'a>(caption: &'a [String], rarity: &impl Fn(&[String]) -> f64) -> [Vector<'a>; N] {
    std::array::from_fn(|i| vector(caption, i + 1, rarity))
}

fn vector<'a>(caption: &'a [String], n: usize, rarity: &impl Fn(&[String]) -> f64) -> Vector<'a> {
    let counts = ngrams(caption, n).into_iter();
    let weights: HashMap<_, _> = counts
        .map(|(ngram, count)| (ngram, count as f64 * rarity(ngram)))
        .collect();
    let norm = weights
        .values()
        .map(|weight| weight * weight)
        .sum::<f64>()
        .sqrt();
    Vector { weights, norm }
}

fn clipped_cosine(candidate: &Vector, reference: &Vector) -> f64 {
    if candidate.norm == 0.0 || reference.norm == 0.0 {
        return 0.0;
    }
    let common = candidate.weights.iter().filter_map(|(ngram, own)| {
        let other = reference.weights.get(ngram)?;
        Some(own.min(*other) * other)
    });
    common.sum::<f64>() / (candidate.norm * reference.norm)
}

/// 1 for the same number of bigrams, less for others.
fn closeness(candidate: usize, reference: usize) -> f64 {
    let bigrams = |words: usize| words.saturating_sub(1) as f64;
    let delta = bigrams(candidate) - bigrams(reference);
    (-delta * delta / (2.0 * SIGMA * SIGMA)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(caption: &str) -> Vec<String> {
        caption.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_copy_of_the_only_reference_scores_ten_and_common_words_count_for_nothing() {
        let references = vec![
            vec![split("a red cat sleeps here")],
            vec![split("a blue dog runs away now")],
        ];
        let of = |first: &str| {
            cider_d(&[split(first), split("")], &references)
                .unwrap()
                .each
        };
        assert!((of("a red cat sleeps here")[0] - 10.0).abs() < 1e-12);
        // "a" stands in the references of all images.
        assert_eq!(of("a"), [0.0, 0.0]);
        // By hand: one of four rare words, the same length; idf is ln 2 everywhere. n = 1: 1 / (2 · 2).
        let cosine = of("a red bird flies off")[0];
        let bigram = 1.0 / 4.0; // "a red" of four bigrams
        assert!(
            (cosine - 10.0 * (0.25 + bigram) / 4.0).abs() < 1e-12,
            "{cosine}"
        );
    }

    #[test]
    fn with_one_image_nothing_is_rare() {
        let cider = cider_d(&[split("a cat")], &[vec![split("a cat")]]).unwrap();
        assert_eq!(cider.score, 0.0);
        assert_eq!(cider_d(&[], &[]), None);
    }
}
