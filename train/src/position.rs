//! Which batches belong to a step: a pure function, so that the step number is all a checkpoint needs.

use std::ops::Range;

/// Maps steps to batches.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    per_epoch: u64,
    accumulate: u64,
}

impl Position {
    /// `per_epoch` batches in an epoch, `accumulate` of them in a step. Batches that do not fill a step at
    /// the end of an epoch are left out.
    pub fn new(per_epoch: u64, accumulate: u64) -> Self {
        Self {
            per_epoch,
            accumulate,
        }
    }

    /// Batches of a step, counted from 0.
    pub fn batches_of(&self, step: u64) -> Range<u64> {
        let steps = self.steps_per_epoch();
        let start = step / steps * self.per_epoch + step % steps * self.accumulate;
        start..start + self.accumulate
    }

    /// Epochs done after so many steps.
    pub fn epochs(&self, steps: u64) -> f64 {
        steps as f64 / self.steps_per_epoch() as f64
    }

    fn steps_per_epoch(&self) -> u64 {
        self.per_epoch / self.accumulate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remainder_at_the_end_of_an_epoch_is_left_out() {
        let position = Position::new(7, 3);
        assert_eq!(position.batches_of(0), 0..3);
        assert_eq!(position.batches_of(1), 3..6);
        assert_eq!(position.batches_of(2), 7..10);
        assert_eq!(position.epochs(3), 1.5);
    }
}
