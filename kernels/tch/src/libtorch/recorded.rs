//! Functions whose gradient LibTorch keeps a record for, as PyTorch does.

use super::calls;
use burn_tch::TchTensor;
use tch::Tensor;

/// Inputs and output of a function, and how the one came from the others.
#[derive(Clone, Debug)]
pub(super) struct Recorded<const N: usize> {
    leaves: [TchTensor; N],
    /// As long as this is held, nobody writes into the output, which the record may need.
    out: TchTensor,
}

/// The function's output, which is new memory, and the record.
pub(super) fn record<const N: usize>(
    inputs: [TchTensor; N],
    function: impl FnOnce([&Tensor; N]) -> Tensor,
) -> (TchTensor, Recorded<N>) {
    let leaves = inputs.map(|input| TchTensor {
        tensor: input.tensor.detach().set_requires_grad(true),
        storage: input.storage,
    });
    let out = tch::with_grad(|| function(leaves.each_ref().map(|leaf| &leaf.tensor)));
    let out = TchTensor::new(out);
    let plain = TchTensor {
        tensor: out.tensor.detach(),
        storage: out.storage.clone(),
    };
    (plain, Recorded { leaves, out })
}

impl<const N: usize> Recorded<N> {
    /// Gradients of the inputs, from the output's.
    pub fn backward(&self, dy: &Tensor) -> [Tensor; N] {
        let leaves = self.leaves.each_ref().map(|leaf| &leaf.tensor);
        calls::gradients(&self.out.tensor, dy, leaves)
    }
}
