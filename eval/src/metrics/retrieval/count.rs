//! Counting, in one tile of scores, what stands before the best right item of each query.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::metrics::scores::TILE;

/// Where the best right item of a query stands in its gallery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rank {
    /// Items that score higher.
    pub greater: u32,
    /// Wrong items of exactly the same score with a lower index.
    pub before: u32,
    /// Wrong items of exactly the same score.
    pub tied: u32,
}

/// The right item with the highest score; the lowest index among equals. Infinite if there is no right item.
#[derive(Clone, Copy)]
pub(super) struct Best {
    pub(super) score: f32,
    pub(super) item: usize,
}

impl Best {
    pub(super) const NONE: Self = Self {
        score: f32::INFINITY,
        item: 0,
    };

    /// Items arrive in ascending order, so that of equal scores the first stays.
    pub(super) fn offer(&mut self, score: f32, item: usize) {
        if self.score == f32::INFINITY || score > self.score {
            *self = Self { score, item };
        }
    }
}

/// Shared between threads; sums of integers come out the same in any order.
#[derive(Default)]
pub(super) struct Counts {
    greater: AtomicU32,
    before: AtomicU32,
    tied: AtomicU32,
}

impl Counts {
    pub(super) fn into_rank(self) -> Rank {
        let [greater, before, tied] =
            [self.greater, self.before, self.tied].map(AtomicU32::into_inner);
        Rank {
            greater,
            before,
            tied,
        }
    }

    /// Adds a wrong item of equal score.
    pub(super) fn add_tie(&self, item: usize, best: usize) {
        self.tied.fetch_add(1, Relaxed);
        self.before.fetch_add(u32::from(item < best), Relaxed);
    }
}

/// The filled part of one tile of scores.
pub(super) struct Table<'a> {
    pub(super) scores: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Table<'_> {
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.scores[row * TILE..row * TILE + self.columns]
    }

    /// Rows are queries, column `c` is the item `first + c`.
    pub(super) fn count_rows(
        &self,
        best: &[Best],
        first: usize,
        counts: &[Counts],
        is_right: impl Fn(usize, usize) -> bool,
    ) {
        for row in 0..self.rows {
            let Best { score, item } = best[row];
            let (mut greater, mut equal) = (0u32, 0u32);
            for &s in self.row(row) {
                greater += u32::from(s > score);
                equal += u32::from(s == score);
            }
            counts[row].greater.fetch_add(greater, Relaxed);
            if equal > 0 {
                let ties = self
                    .row(row)
                    .iter()
                    .zip(first..)
                    .filter(|(s, _)| **s == score);
                for (_, tied) in ties.filter(|&(_, tied)| !is_right(row, tied)) {
                    counts[row].add_tie(tied, item);
                }
            }
        }
    }

    /// Columns are queries, row `r` is the item `first + r`.
    pub(super) fn count_columns(
        &self,
        best: &[Best],
        first: usize,
        counts: &[Counts],
        is_right: impl Fn(usize, usize) -> bool,
    ) {
        let (mut greater, mut equal, mut limits) = ([0u32; TILE], [0u32; TILE], [0f32; TILE]);
        for (limit, best) in limits.iter_mut().zip(best) {
            *limit = best.score;
        }
        for row in 0..self.rows {
            let columns = greater.iter_mut().zip(&mut equal).zip(&limits);
            for (&s, ((greater, equal), &limit)) in self.row(row).iter().zip(columns) {
                *greater += u32::from(s > limit);
                *equal += u32::from(s == limit);
            }
        }
        for column in 0..self.columns {
            counts[column].greater.fetch_add(greater[column], Relaxed);
            if equal[column] > 0 {
                let ties = (0..self.rows).filter(|&r| self.row(r)[column] == limits[column]);
                for tied in ties
                    .map(|r| first + r)
                    .filter(|&tied| !is_right(column, tied))
                {
                    counts[column].add_tie(tied, best[column].item);
                }
            }
        }
    }
}
