//! BLEU-4 of a corpus.

use std::collections::HashMap;

use super::{N, ngrams};

/// BLEU-4 with its parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bleu {
    /// Brevity penalty times the geometric mean of the precisions, from 0 to 1.
    pub score: f64,
    /// Share of the candidates' n-grams that occur in their references, for n = 1 to 4.
    pub precisions: [f64; N],
    /// 1, or less where candidates are shorter than their references.
    pub brevity: f64,
}

/// BLEU of Papineni et al. (2002) over all captions at once, with up to four words and uniform weights.
///
/// An n-gram of a candidate counts at most as often as in the one reference that has it most often. The brevity
/// penalty compares with the reference whose length is nearest to the candidate's, the shorter one of two. Nothing is
/// smoothed: without a single common 4-gram the score is 0. The same as sacrebleu's with `smooth_method="none"`, and
/// as the COCO evaluation's but for the constants of 1e-15 and 1e-9 that it adds. NLTK counts an n-gram of candidates
/// too short to have any, and so gives less.
///
/// `references[i]` are those of candidate `i`. `None` without candidates.
///
/// # Panics
///
/// Panics if candidates and references differ in number, or a candidate has no reference.
pub fn bleu(candidates: &[Vec<String>], references: &[Vec<Vec<String>>]) -> Option<Bleu> {
    assert_eq!(
        candidates.len(),
        references.len(),
        "references per candidate"
    );
    if candidates.is_empty() {
        return None;
    }
    let (mut right, mut all) = ([0; N], [0; N]);
    let (mut length, mut reference_length) = (0, 0);
    for (candidate, references) in candidates.iter().zip(references) {
        length += candidate.len();
        let nearest = references.iter().map(Vec::len);
        reference_length += nearest
            .min_by_key(|len| (len.abs_diff(candidate.len()), *len))
            .expect("a reference per candidate");
        for n in 1..=N {
            let mut most: HashMap<&[String], usize> = HashMap::new();
            for reference in references {
                for (ngram, count) in ngrams(reference, n) {
                    let known = most.entry(ngram).or_insert(0);
                    *known = (*known).max(count);
                }
            }
            for (ngram, count) in ngrams(candidate, n) {
                right[n - 1] += count.min(most.get(ngram).copied().unwrap_or(0));
                all[n - 1] += count;
            }
        }
    }
    let precision = |i: usize| match all[i] {
        0 => 0.0,
        all => right[i] as f64 / all as f64,
    };
    let precisions: [f64; N] = std::array::from_fn(precision);
    let brevity = match length {
        0 => 0.0,
        length if length > reference_length => 1.0,
        length => (1.0 - reference_length as f64 / length as f64).exp(),
    };
    let logarithms: f64 = precisions.iter().map(|p| p.ln()).sum();
    Some(Bleu {
        score: brevity * (logarithms / N as f64).exp(),
        precisions,
        brevity,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(caption: &str) -> Vec<String> {
        caption.split(' ').map(str::to_owned).collect()
    }

    /// The example of the paper's section 2.1: "the" occurs twice at most in one reference.
    #[test]
    fn a_word_counts_as_often_as_in_one_reference() {
        let candidate = split("the the the the the the the");
        let references = vec![
            split("the cat is on the mat"),
            split("there is a cat on the mat"),
        ];
        let bleu = bleu(&[candidate], &[references]).unwrap();
        assert_eq!(bleu.precisions[0], 2.0 / 7.0);
        assert_eq!((bleu.score, bleu.brevity), (0.0, 1.0));
    }

    #[test]
    fn a_copy_is_perfect_and_a_short_one_is_punished() {
        let reference = split("a red cat on a mat");
        let of = |candidate: &str| bleu(&[split(candidate)], &[vec![reference.clone()]]).unwrap();
        assert_eq!(of("a red cat on a mat").score, 1.0);
        let short = of("a red cat on");
        assert_eq!(short.precisions, [1.0; 4]);
        assert!((short.score - (1.0f64 - 6.0 / 4.0).exp()).abs() < 1e-15);
        assert_eq!(bleu(&[], &[]), None);
        assert_eq!(
            bleu(&[vec![]], &[vec![reference.clone()]]).unwrap().score,
            0.0
        );
    }
}
