//! Where batches come from, as the loop sees it.

use crate::error::BoxError;
use std::time::Duration;

/// Batches whose content is a function of their number alone: what makes a resumed run see the same stream.
pub trait Batches<T> {
    /// Full batches in one epoch.
    fn per_epoch(&self) -> u64;

    /// Batch number `position` since the start of the run: number `position % per_epoch` of epoch
    /// `position / per_epoch`. Asked for in ascending order, so implementors prepare the following ones;
    /// a jump happens after a resume and where an epoch leaves a remainder.
    ///
    /// # Errors
    ///
    /// When the data cannot be read any further.
    fn get(&mut self, position: u64) -> Result<T, BoxError>;

    /// Time spent waiting for batches so far, for the log.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    /// What there is to tell since the last call, such as samples that could not be read.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}
