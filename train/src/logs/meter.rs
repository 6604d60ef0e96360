//! Speed since the last log entry.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Counts samples and the time spent waiting for them.
pub struct Meter {
    since: Instant,
    samples: usize,
    waited: Duration,
}

impl Meter {
    /// Starts now; `waited` is the loader's clock.
    pub fn new(waited: Duration) -> Self {
        Self {
            since: Instant::now(),
            samples: 0,
            waited,
        }
    }

    /// Counts the samples of a step.
    pub fn count(&mut self, samples: usize) {
        self.samples += samples;
    }

    /// Values since the last call, and starts anew.
    pub fn read(&mut self, waited: Duration) -> BTreeMap<String, f64> {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let idle = waited.saturating_sub(self.waited).as_secs_f64();
        let values = [
            (
                "samples_per_second".to_string(),
                self.samples as f64 / seconds,
            ),
            ("wait_share".to_string(), (idle / seconds).min(1.0)),
        ];
        *self = Self::new(waited);
        values.into()
    }

    /// True if nothing was counted since the last reading.
    pub fn is_fresh(&self) -> bool {
        self.samples == 0
    }

    /// Leaves out what went before: a validation or a checkpoint is not training, and nobody waits for data in it.
    pub fn pause(&mut self) {
        *self = Self::new(self.waited);
    }
}
