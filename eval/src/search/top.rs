//! The best of many scores, in the memory of the best alone.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use serde::Serialize;

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// Its place in the table.
    pub row: usize,
    /// Cosine of the row and the query.
    pub score: f32,
}

/// Greater is better: a higher score, and of equal scores the lower row. No two rows are equal, so the best are the same
/// whatever the order in which rows are seen.
#[derive(Clone, Copy, Debug)]
struct Ranked(Hit);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.0.score.total_cmp(&other.0.score);
        by_score.then(other.0.row.cmp(&self.0.row))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

/// Keeps the `k` best hits of those that it is shown.
#[derive(Clone, Debug)]
pub(super) struct Top {
    k: usize,
    /// The worst one on top.
    kept: BinaryHeap<Reverse<Ranked>>,
}

impl Top {
    pub fn new(k: usize) -> Self {
        Self {
            k,
            kept: BinaryHeap::new(),
        }
    }

    pub fn show(&mut self, hit: Hit) {
        let hit = Ranked(hit);
        if self.kept.len() < self.k {
            self.kept.push(Reverse(hit));
            return;
        }
        if let Some(mut worst) = self.kept.peek_mut()
            && hit > worst.0
        {
            *worst = Reverse(hit);
        }
    }

    /// The best of both.
    pub fn merge(mut self, other: Self) -> Self {
        other.kept.into_iter().for_each(|hit| self.show(hit.0.0));
        self
    }

    /// Best first.
    pub fn into_hits(self) -> Vec<Hit> {
        let sorted = self.kept.into_sorted_vec(); // of the reversed: best first
        sorted.into_iter().map(|hit| hit.0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hits(scores: &[f32]) -> Vec<Hit> {
        let rows = scores.iter().enumerate();
        rows.map(|(row, &score)| Hit { row, score }).collect()
    }

    fn best(k: usize, hits: &[Hit]) -> Top {
        let mut top = Top::new(k);
        hits.iter().for_each(|hit| top.show(*hit));
        top
    }

    proptest! {
        /// Few different scores, so that most are ties.
        #[test]
        fn the_best_are_those_of_a_stable_sort_in_whatever_order_and_parts_they_are_shown(
            scores in proptest::collection::vec((-3i8..3).prop_map(f32::from), 0..60),
            k in 0usize..20,
            cut in 0usize..60,
        ) {
            let mut sorted = hits(&scores);
            sorted.sort_by(|a, b| b.score.total_cmp(&a.score)); // stable: ties stay in the order of rows
            sorted.truncate(k);
            let shown = hits(&scores);
            prop_assert_eq!(&best(k, &shown).into_hits(), &sorted);
            let backwards: Vec<Hit> = shown.iter().rev().copied().collect();
            prop_assert_eq!(&best(k, &backwards).into_hits(), &sorted);
            let (left, right) = shown.split_at(cut.min(shown.len()));
            prop_assert_eq!(&best(k, right).merge(best(k, left)).into_hits(), &sorted);
        }
    }
}
