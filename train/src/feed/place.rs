//! One counter of samples says where a run stands in its data.

use serde::{Deserialize, Serialize};

/// A place in the stream of samples of one replica: all that is needed to go on there, with whatever batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Epochs that are over.
    pub epoch: u64,
    /// Samples of the current epoch that were visited.
    pub sample: u64,
}

impl Place {
    /// Where a step of `samples` begins: here, or in the next epoch if this one does not hold as many any more. What is
    /// left of an epoch is left out.
    pub fn before(self, samples: u64, per_epoch: u64) -> Self {
        match self.sample + samples <= per_epoch {
            true => self,
            false => Self {
                epoch: self.epoch + 1,
                sample: 0,
            },
        }
    }

    /// So many samples further in the same epoch.
    pub fn plus(self, samples: u64) -> Self {
        Self {
            sample: self.sample + samples,
            ..self
        }
    }

    /// The place in the stream of all `replicas` of this place in the stream of one.
    pub fn of_all(self, replicas: usize) -> Self {
        Self {
            sample: self.sample * replicas as u64,
            ..self
        }
    }

    /// The place in the stream of one of `replicas`, each of which visits every `replicas`-th sample; `None` where they
    /// would not all stand at the same.
    pub fn of_one(self, replicas: usize) -> Option<Self> {
        let replicas = replicas as u64;
        self.sample.is_multiple_of(replicas).then(|| Self {
            sample: self.sample / replicas,
            ..self
        })
    }

    /// Epochs done, where an epoch is all whole steps of `samples` in it.
    pub fn epochs(self, samples: u64, per_epoch: u64) -> f64 {
        let whole = per_epoch / samples * samples;
        self.epoch as f64 + (self.sample as f64 / whole as f64).min(1.0)
    }

    /// Steps of `samples` from here to the end of epoch number `epochs`.
    pub fn steps_until(self, epochs: u64, samples: u64, per_epoch: u64) -> u64 {
        let left = epochs.saturating_sub(self.epoch.saturating_add(1));
        let left = left.saturating_mul(per_epoch / samples);
        match self.epoch < epochs {
            true => left.saturating_add(per_epoch.saturating_sub(self.sample) / samples),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remainder_at_the_end_of_an_epoch_is_left_out() {
        let mut place = Place::default();
        let mut begins = Vec::new();
        for _ in 0..5 {
            place = place.before(3, 7);
            begins.push((place.epoch, place.sample));
            place = place.plus(3);
        }
        assert_eq!(begins, [(0, 0), (0, 3), (1, 0), (1, 3), (2, 0)]);
        assert_eq!(place.epochs(3, 7), 2.5);
        assert_eq!(
            Place {
                epoch: 0,
                sample: 6
            }
            .epochs(3, 7),
            1.0
        );
    }

    #[test]
    fn steps_that_are_left_are_counted_with_whatever_batch() {
        let start = Place::default();
        assert_eq!(start.steps_until(2, 3, 7), 4);
        let place = Place {
            epoch: 0,
            sample: 3,
        };
        assert_eq!(place.steps_until(2, 3, 7), 3);
        assert_eq!(place.steps_until(2, 1, 7), 11);
        assert_eq!(
            Place {
                epoch: 2,
                sample: 0
            }
            .steps_until(2, 3, 7),
            0
        );
    }

    #[test]
    fn an_absurd_number_of_epochs_is_the_largest_number_of_steps() {
        assert_eq!(Place::default().steps_until(u64::MAX, 1, 7), u64::MAX);
    }
}
