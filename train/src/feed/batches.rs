//! Where batches come from, as the trainer sees it.

use super::place::Place;
use crate::error::BoxError;
use std::time::Duration;

/// Batches whose content is a function of their place alone: what makes a resumed run see the same stream.
pub trait Batches<T> {
    /// Samples that this replica visits in one epoch.
    fn samples_per_epoch(&self) -> u64;

    /// Samples in a batch; all batches are full.
    fn batch_size(&self) -> u64;

    /// The batch whose first sample stands at `place`. Asked for in ascending order, so implementors prepare the
    /// following ones; a jump happens after a resume and where an epoch leaves a remainder.
    ///
    /// # Errors
    ///
    /// When the data cannot be read any further.
    fn get(&mut self, place: Place) -> Result<T, BoxError>;

    /// Time spent waiting for batches so far, for the log.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    /// What there is to tell since the last call, such as samples that could not be read.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}
