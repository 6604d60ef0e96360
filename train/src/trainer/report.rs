//! What a step says about itself.

use crate::logs::{Entry, Kind};
use std::collections::BTreeMap;
use std::fmt;

/// What happened in one optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Samples seen so far, by all replicas.
    pub samples: u64,
    /// Samples of this step, of all replicas.
    pub samples_in_step: u64,
    /// False if the step was left out because its loss or gradient is not finite.
    pub finite: bool,
    /// True if it was the last one.
    pub last: bool,
    /// `lr`, and where the loss was read: `loss`, its parts, `grad_norm`, `logit_scale`.
    pub values: BTreeMap<String, f64>,
}

impl StepReport {
    /// True after every `n`-th step and after the last one; with 0 after the last one only.
    pub fn every(&self, n: u64) -> bool {
        self.last || (n > 0 && self.step.is_multiple_of(n))
    }

    /// As an entry of the log.
    pub fn entry(&self, kind: Kind, values: BTreeMap<String, f64>) -> Entry {
        Entry {
            kind,
            step: self.step,
            epoch: self.epoch,
            samples: self.samples,
            values,
            speed: BTreeMap::new(),
        }
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entry(Kind::Train, self.values.clone()).line())
    }
}
