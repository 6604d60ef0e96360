//! What a loader tells about its work.

use std::fmt;
use std::time::Duration;

/// A sample that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Epoch, from 0.
    pub epoch: u64,
    /// The source.
    pub source: String,
    /// The sample's index there.
    pub index: usize,
    /// Its key, if it was read.
    pub key: Option<String>,
    /// Why it cannot be used.
    pub reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(
                f,
                "sample {} ({key}) of {}: {}",
                self.index, self.source, self.reason
            ),
            None => write!(
                f,
                "sample {} of {}: {}",
                self.index, self.source, self.reason
            ),
        }
    }
}

/// The work of a loader so far.
#[derive(Clone, Debug, Default)]
pub struct LoaderReport {
    /// Batches taken.
    pub batches: usize,
    /// Samples in them.
    pub samples: usize,
    /// Time the caller waited for the first batch.
    pub first_wait: Duration,
    /// Time the caller waited for all later batches. Near zero: the loader keeps up.
    pub waited: Duration,
    /// Samples skipped.
    pub skipped: usize,
    /// The latest of them.
    pub latest: Option<Skipped>,
    /// Skipped samples that were not taken yet, the first [`LoaderReport::KEPT`].
    pub untold: Vec<Skipped>,
}

impl LoaderReport {
    /// How many skipped samples are kept with their text.
    pub const KEPT: usize = 100;

    pub(super) fn wait(&mut self, time: Duration) {
        if self.batches == 0 {
            self.first_wait = time;
        } else {
            self.waited += time;
        }
    }

    pub(super) fn add(&mut self, samples: usize, skipped: Vec<Skipped>) {
        self.batches += 1;
        self.samples += samples;
        self.skipped += skipped.len();
        self.latest = skipped.last().cloned().or(self.latest.take());
        let room = Self::KEPT.saturating_sub(self.untold.len());
        self.untold.extend(skipped.into_iter().take(room));
    }
}
