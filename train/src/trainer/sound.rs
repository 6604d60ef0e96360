//! Whether the device can still be trusted.

use crate::error::{Result, TrainError};
use crate::fault::device_fault;

/// Passes as long as the device is sound.
///
/// # Errors
///
/// The first fault.
pub fn check() -> Result<()> {
    check_batch(0, 1)
}

/// [`check`] that can say which batch size to try.
pub(crate) fn check_batch(pairs: usize, accumulate: usize) -> Result<()> {
    match device_fault() {
        None => Ok(()),
        Some(fault) => Err(TrainError::Device {
            fault,
            pairs,
            accumulate,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn a_full_device_is_told_with_a_batch_size_to_try() {
        let message = "called `Result::unwrap()` on an `Err` value: can't allocate buffer of size: 2097152\n…";
        let error = |pairs| TrainError::Device {
            fault: Fault::from_message(message),
            pairs,
            accumulate: 2,
        };
        let told = error(0).to_string();
        assert!(
            told.contains("2.0 MiB") && told.contains("smaller batch"),
            "{told}"
        );
        let told = error(256).to_string();
        assert!(
            told.contains("batch_size = 128") && told.contains("accumulate = 4"),
            "{told}"
        );
    }
}
