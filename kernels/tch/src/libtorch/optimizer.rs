//! What an optimizer does with all parameters at once: LibTorch's calls for lists of tensors, which launch a few kernels for all.

use super::{calls, contiguous, shape};
use burn_tch::TchTensor;
use kernels::Updates;
use tch::{Device, Kind};

/// The longest tensor whose norm is left to LibTorch on a CPU: there it adds up squares in f32 one after the other, and of millions
/// the sum is off by a thousandth.
const SHORT: usize = 4096;

/// Weights and moments after all updates.
///
/// LibTorch's call counts steps itself. Here the corrections of bias are in the numbers, so it is told of a step so late that its own
/// are 1, and the root of one is moved: `m · step / (√v / root + eps) = m · (step · root) / (√v + eps · root)`.
///
/// # Errors
///
/// The updates as they came, if one of them does not fit.
pub(super) fn adamw(
    updates: Updates<TchTensor>,
) -> Result<Vec<[TchTensor; 3]>, Updates<TchTensor>> {
    let fits = |tensors: &[TchTensor; 4]| {
        let (n, device) = (shape(&tensors[0]), tensors[0].tensor.device());
        tensors
            .iter()
            .all(|tensor| is_f32(tensor, device) && shape(tensor) == n)
    };
    if !updates.iter().all(|(_, tensors)| fits(tensors)) {
        return Err(updates);
    }
    let updates: Vec<_> = updates
        .into_iter()
        .map(|(numbers, tensors)| (numbers, tensors.map(contiguous)))
        .collect();
    let mut made: Vec<Option<[TchTensor; 3]>> = updates.iter().map(|_| None).collect();
    // Those of the same numbers on the same device together.
    while let Some(first) = made.iter().position(Option::is_none) {
        let (numbers, device) = (updates[first].0, updates[first].1[0].tensor.device());
        let same = |at: &usize| {
            let (others, tensors) = &updates[*at];
            *others == numbers && tensors[0].tensor.device() == device
        };
        let which: Vec<usize> = (first..updates.len()).filter(same).collect();
        let of = |at: &usize| &updates[*at].1;
        let tensors: Vec<_> = which
            .iter()
            .map(|at| of(at).each_ref().map(|one| &one.tensor))
            .collect();
        let free: Vec<_> = which
            .iter()
            .map(|at| of(at).each_ref().map(is_free))
            .collect();
        let new = calls::adamw(numbers, &tensors, &free);
        for (at, new) in which.iter().zip(new) {
            made[*at] = Some(new.map(TchTensor::new));
        }
    }
    Ok(made
        .into_iter()
        .map(|made| made.expect("each has its turn"))
        .collect())
}

/// Whether nobody else holds it.
fn is_free(tensor: &TchTensor) -> bool {
    tensor.storage.can_mut()
}

fn is_f32(tensor: &TchTensor, device: Device) -> bool {
    tensor.tensor.kind() == Kind::Float && tensor.tensor.device() == device
}

/// The norm of all tensors together, `[1]`.
pub(super) fn norm(tensors: &[TchTensor]) -> Option<TchTensor> {
    let device = tensors.first()?.tensor.device();
    let fits = |tensor: &TchTensor| {
        is_f32(tensor, device) && (device.is_cuda() || tensor.tensor.numel() <= SHORT)
    };
    let all = tensors.iter().all(fits);
    all.then(|| TchTensor::new(calls::norm(tensors.iter().map(|tensor| &tensor.tensor))))
}

/// All tensors times a factor.
///
/// # Errors
///
/// The tensors as they came, if one of them does not fit.
pub(super) fn scale(
    tensors: Vec<TchTensor>,
    factor: &TchTensor,
) -> Result<Vec<TchTensor>, Vec<TchTensor>> {
    let device = factor.tensor.device();
    if !tensors.iter().all(|tensor| is_f32(tensor, device)) || !is_f32(factor, device) {
        return Err(tensors);
    }
    let own = |tensor: TchTensor| match is_free(&tensor) {
        true => tensor,
        false => TchTensor::new(tensor.tensor.copy()),
    };
    let tensors: Vec<_> = tensors.into_iter().map(own).collect();
    calls::scale(tensors.iter().map(|tensor| &tensor.tensor), &factor.tensor);
    Ok(tensors)
}
