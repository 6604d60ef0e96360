//! How good generated captions are, beside those that people wrote: BLEU, CIDEr-D, and the accuracy of single tokens.
//!
//! Captions are lists of words; [`words`] makes them of sentences.

mod bleu;
mod cider;
mod words;

use std::collections::HashMap;

pub use bleu::{Bleu, bleu};
pub use cider::{Cider, cider_d};
pub use words::words;

/// Longest n-gram of either metric.
const N: usize = 4;

/// How often each n-gram of `n` words occurs.
fn ngrams(words: &[String], n: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    for ngram in words.windows(n) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}

/// Share of tokens that are predicted right, one token for each target. `None` without tokens.
///
/// # Panics
///
/// Panics if there is not one prediction per target.
pub fn token_accuracy(predicted: &[u32], targets: &[u32]) -> Option<f64> {
    assert_eq!(predicted.len(), targets.len(), "a prediction per target");
    let right = predicted
        .iter()
        .zip(targets)
        .filter(|(p, t)| p == t)
        .count();
    (!targets.is_empty()).then(|| right as f64 / targets.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// `tests/reference/eval_captions.py`.
    #[derive(Deserialize)]
    struct Fixture {
        sets: Vec<Set>,
    }

    #[derive(Deserialize)]
    struct Set {
        candidates: Vec<String>,
        references: Vec<Vec<String>>,
        bleu_sacrebleu: f64,
        bleu_coco: f64,
        cider_d: f64,
        cider_d_each: Vec<f64>,
    }

    fn split(caption: &str) -> Vec<String> {
        caption.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn scores_are_those_of_sacrebleu_and_the_coco_evaluation() {
        let text = include_str!("../../../tests/fixtures/eval_captions.json");
        let fixture: Fixture = serde_json::from_str(text).unwrap();
        assert!(fixture.sets.len() >= 4);
        for (number, set) in fixture.sets.iter().enumerate() {
            let candidates: Vec<_> = set.candidates.iter().map(|c| split(c)).collect();
            let references: Vec<Vec<_>> = set
                .references
                .iter()
                .map(|of_image| of_image.iter().map(|c| split(c)).collect())
                .collect();
            let bleu = bleu(&candidates, &references).unwrap().score;
            let cider = cider_d(&candidates, &references).unwrap();
            // Without a common 4-gram the COCO evaluation's constants are all that is left.
            let coco = if bleu > 0.0 { set.bleu_coco } else { 0.0 };
            for (what, got, want) in [
                ("coco", bleu, coco),
                ("sacrebleu", bleu, set.bleu_sacrebleu),
                ("cider", cider.score, set.cider_d),
            ] {
                assert!(
                    (got - want).abs() < 1e-9,
                    "set {number}, {what}: {got}, {want}"
                );
            }
            for (got, want) in cider.each.iter().zip(&set.cider_d_each) {
                assert!((got - want).abs() < 1e-9, "set {number}: {got}, {want}");
            }
            assert_eq!(cider.each.len(), set.cider_d_each.len());
        }
    }

    #[test]
    fn tokens_are_counted_one_by_one() {
        assert_eq!(token_accuracy(&[1, 2, 3, 4], &[1, 9, 3, 9]), Some(0.5));
        assert_eq!(token_accuracy(&[], &[]), None);
    }
}
