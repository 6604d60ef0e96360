//! One AdamW update by LibTorch's fused call, which counts steps itself.
//!
//! Here the corrections of bias are in the numbers, so it is told of a step so late that its own are 1, and the root of one is
//! moved: `m · step / (√v / root + eps) = m · (step · root) / (√v + eps · root)`.

use super::{calls, contiguous, shape};
use burn::prelude::*;
use burn_tch::TchTensor;
use kernels::{AdamW, Raw, same};
use tch::Kind;

/// Weights and moments after the update, from weights, gradient and moments.
pub(super) fn adamw<B: Backend>(numbers: AdamW, tensors: [Raw<B>; 4]) -> Option<[Raw<B>; 3]> {
    let tensors: [TchTensor; 4] = same(tensors)?;
    let (n, device) = (shape(&tensors[0]), tensors[0].tensor.device());
    let fit = |tensor: &TchTensor| {
        let raw = &tensor.tensor;
        raw.kind() == Kind::Float && raw.device() == device && raw.size() == n
    };
    if !tensors.iter().all(fit) {
        return None;
    }
    let tensors = tensors.map(contiguous);
    let made = calls::adamw(tensors.each_ref().map(|tensor| &tensor.tensor), numbers);
    same(made.map(TchTensor::new))
}
