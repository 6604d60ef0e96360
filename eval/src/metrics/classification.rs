//! Accuracy at k, mean per-class recall and mean average precision, as CLIP_benchmark defines them
//! (`metrics/zeroshot_classification.py`), with ties broken by class or image index instead of by chance.

use std::cmp::Ordering;

/// Position of `label` when classes are sorted by score: 0 is best, of equal scores the lower class index is first.
///
/// # Panics
///
/// Panics if `label` is not a class.
pub fn label_rank(scores: &[f32], label: usize) -> usize {
    let own = scores[label];
    let before = scores[..label].iter().filter(|&&s| s >= own).count();
    before + scores[label + 1..].iter().filter(|&&s| s > own).count()
}

/// The class with the highest score; of equal scores the lower index. 0 if there is no class.
pub fn argmax(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// What single-label metrics need to know of a set of scored images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Number of classes.
    pub classes: usize,
    /// Right class of each image.
    pub labels: Vec<usize>,
    /// Best class of each image.
    pub predicted: Vec<usize>,
    /// Position of the right class among all, from 0.
    pub ranks: Vec<usize>,
    /// Images where another class has exactly the score of the right one.
    pub ties: usize,
}

impl Predictions {
    /// No image yet, `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            ..Self::default()
        }
    }

    /// Reads rows of scores, `classes` to a row.
    ///
    /// # Panics
    ///
    /// Panics if a label is not a class.
    pub fn from_scores(scores: &[f32], classes: usize, labels: &[usize]) -> Self {
        let mut predictions = Self::new(classes);
        for (row, &label) in scores.chunks_exact(classes).zip(labels) {
            predictions.push(row, label);
        }
        predictions
    }

    /// Adds one image.
    ///
    /// # Panics
    ///
    /// Panics if `label` is not a class.
    pub fn push(&mut self, scores: &[f32], label: usize) {
        self.labels.push(label);
        self.predicted.push(argmax(scores));
        self.ranks.push(label_rank(scores, label));
        let equal = scores.iter().filter(|&&s| s == scores[label]).count();
        self.ties += usize::from(equal > 1);
    }

    /// Share of images whose right class is among the `k` best. `None` without images or with fewer than `k` classes.
    pub fn accuracy_at(&self, k: usize) -> Option<f64> {
        if self.classes < k {
            return None;
        }
        share(
            self.ranks.iter().filter(|&&rank| rank < k).count(),
            self.ranks.len(),
        )
    }

    /// Recall averaged over the classes that occur (balanced accuracy). `None` without images.
    pub fn mean_per_class_recall(&self) -> Option<f64> {
        let mut right = vec![0usize; self.classes];
        let mut all = vec![0usize; self.classes];
        for (&label, &predicted) in self.labels.iter().zip(&self.predicted) {
            all[label] += 1;
            right[label] += usize::from(label == predicted);
        }
        let recalls: Vec<f64> = right
            .iter()
            .zip(&all)
            .filter_map(|(&right, &all)| share(right, all))
            .collect();
        (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
    }

    /// The most frequent mistakes as (right class, predicted class, images), most frequent first.
    pub fn confusions(&self, limit: usize) -> Vec<(usize, usize, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for (&label, &predicted) in self.labels.iter().zip(&self.predicted) {
            if label != predicted {
                *counts.entry((label, predicted)).or_insert(0usize) += 1;
            }
        }
        let mut pairs: Vec<_> = counts.into_iter().map(|((l, p), n)| (l, p, n)).collect();
        pairs.sort_by_key(|&(_, _, n)| std::cmp::Reverse(n));
        pairs.truncate(limit);
        pairs
    }
}

/// Average precision of one class: the mean of the precision at every relevant image, images sorted by score.
/// 0 if no image is relevant. Of equal scores the lower image index is first.
pub fn average_precision(scores: &[f32], relevant: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len().min(relevant.len())).collect();
    order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal));
    let (mut hits, mut sum) = (0usize, 0.0);
    for (position, image) in order.into_iter().enumerate() {
        if relevant[image] {
            hits += 1;
            sum += hits as f64 / (position + 1) as f64;
        }
    }
    sum / hits.max(1) as f64
}

/// Mean of [`average_precision`] over all `classes`; a class without a relevant image counts as 0.
///
/// `scores` and `relevant` are row-major, one row of `classes` values to an image. `None` without classes.
pub fn mean_average_precision(scores: &[f32], relevant: &[bool], classes: usize) -> Option<f64> {
    let of_class = |class: usize| {
        let scores: Vec<f32> = scores
            .iter()
            .skip(class)
            .step_by(classes)
            .copied()
            .collect();
        let relevant: Vec<bool> = relevant
            .iter()
            .skip(class)
            .step_by(classes)
            .copied()
            .collect();
        average_precision(&scores, &relevant)
    };
    (classes > 0).then(|| (0..classes).map(of_class).sum::<f64>() / classes as f64)
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accuracy_at_k_counts_the_right_class_among_the_k_best() {
        let scores = [
            0.9, 0.1, 0.0, // right class 0 is first
            0.2, 0.7, 0.1, // right class 0 is second
            0.3, 0.2, 0.1, // right class 2 is third
            0.1, 0.1, 0.8, // right class 2 is first
        ];
        let predictions = Predictions::from_scores(&scores, 3, &[0, 0, 2, 2]);
        assert_eq!(predictions.accuracy_at(1), Some(0.5));
        assert_eq!(predictions.accuracy_at(2), Some(0.75));
        assert_eq!(predictions.accuracy_at(3), Some(1.0));
        assert_eq!(predictions.accuracy_at(5), None);
    }

    #[test]
    fn of_equal_scores_the_lower_class_wins() {
        let scores = [0.5, 0.5, 0.1];
        assert_eq!(argmax(&scores), 0);
        assert_eq!(label_rank(&scores, 0), 0);
        assert_eq!(label_rank(&scores, 1), 1);
        assert_eq!(Predictions::from_scores(&scores, 3, &[1]).ties, 1);
    }

    #[test]
    fn classes_without_images_do_not_enter_the_mean_recall() {
        // Class 0: one of two right. Class 1: absent. Class 2: one of one right.
        let scores = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let predictions = Predictions::from_scores(&scores, 3, &[0, 0, 2]);
        assert_eq!(predictions.mean_per_class_recall(), Some(0.75));
        assert_eq!(predictions.confusions(5), [(0, 1, 1)]);
    }

    #[test]
    fn average_precision_by_hand_and_an_empty_class_counts_as_zero() {
        // Sorted: relevant, not, relevant → (1/1 + 2/3) / 2.
        assert!(
            (average_precision(&[0.9, 0.5, 0.1], &[true, false, true]) - 5.0 / 6.0).abs() < 1e-12
        );
        let scores = [0.9, 0.3, 0.5, 0.2, 0.1, 0.1];
        let relevant = [true, false, false, false, true, false];
        let map = mean_average_precision(&scores, &relevant, 2).unwrap();
        assert!((map - 5.0 / 12.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_scored_gives_no_number() {
        let none = Predictions::new(7);
        assert_eq!(
            (none.accuracy_at(1), none.mean_per_class_recall()),
            (None, None)
        );
    }

    proptest! {
        #[test]
        fn the_order_of_images_changes_no_metric(
            rows in prop::collection::vec((prop::collection::vec(0u8..4, 6), 0usize..6), 1..40),
            rotate in 0usize..40,
        ) {
            let build = |rows: &[(Vec<u8>, usize)]| {
                let scores: Vec<f32> = rows.iter().flat_map(|r| r.0.iter().map(|&v| v.into())).collect();
                let labels: Vec<usize> = rows.iter().map(|r| r.1).collect();
                Predictions::from_scores(&scores, 6, &labels)
            };
            let mut turned = rows.clone();
            turned.rotate_left(rotate % rows.len());
            let (a, b) = (build(&rows), build(&turned));
            prop_assert_eq!(a.accuracy_at(1), b.accuracy_at(1));
            prop_assert_eq!(a.accuracy_at(5), b.accuracy_at(5));
            prop_assert_eq!(a.confusions(100), b.confusions(100));
            prop_assert_eq!(a.mean_per_class_recall(), b.mean_per_class_recall());
        }

        #[test]
        fn the_rank_of_a_label_is_its_place_in_the_stably_sorted_row(
            row in prop::collection::vec(0u8..5, 1..20), pick in 0usize..20,
        ) {
            let scores: Vec<f32> = row.iter().map(|&v| v.into()).collect();
            let label = pick % scores.len();
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap());
            prop_assert_eq!(label_rank(&scores, label), order.iter().position(|&c| c == label).unwrap());
            prop_assert_eq!(argmax(&scores), order[0]);
        }
    }
}
