//! Products whose gradient burn 0.21 gets wrong on CUDA, refused before they are made.
//!
//! Some of the kernels that autotune chooses among read one stage past the end where the length of a sum leaves 32 over 64
//! (cubek#434; mended in cubek 0.3, which burn 0.21 does not use). A weight's gradient is a sum over samples times tokens,
//! so it depends on the batch size whether training goes wrong, without a word.

use crate::error::{Result, TrainError};

/// Whether such kernels may be chosen.
pub(super) fn may_be_wrong(backend: &str, features: &[String]) -> bool {
    backend.contains("cuda") && features.iter().any(|feature| feature == "autotune")
}

/// Refuses a sum of so many terms.
///
/// # Errors
///
/// Says what to do.
pub(super) fn check(samples: usize, tokens: usize) -> Result<()> {
    let length = samples * tokens;
    if length % 64 != 32 {
        return Ok(());
    }
    let what = match tokens {
        1 => format!("a batch of {samples}"),
        _ => format!("a batch of {samples} with {tokens} tokens each"),
    };
    Err(TrainError::Config(format!(
        "{what}: on CUDA, kernels that autotune may choose give wrong gradients where samples times tokens leaves 32 over 64 \
         ({length} does; a fault of burn 0.21's matrix products). Take a data.loader.batch_size that is a multiple of 64, or a \
         build without the feature autotune"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_leave_half_a_tile_are_refused_with_a_remedy() {
        // ViT-B/32 has 50 tokens, its text tower 77.
        for (samples, tokens) in [(16, 50), (48, 50), (32, 77), (96, 1)] {
            let message = check(samples, tokens).unwrap_err().to_string();
            assert!(message.contains("multiple of 64"), "{message}");
        }
        for (samples, tokens) in [(64, 50), (64, 77), (256, 1), (20, 77)] {
            assert!(check(samples, tokens).is_ok(), "{samples} × {tokens}");
        }
    }

    #[test]
    fn only_autotune_on_cuda_is_suspected() {
        let features = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(may_be_wrong(
            "autodiff<cubecl<cuda>>",
            &features(&["autotune", "cuda"])
        ));
        assert!(!may_be_wrong(
            "autodiff<cubecl<cuda>>",
            &features(&["cuda"])
        ));
        assert!(!may_be_wrong(
            "autodiff<flex>",
            &features(&["autotune", "cuda"])
        ));
    }
}
