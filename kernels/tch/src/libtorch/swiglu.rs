//! The gate of a SwiGLU layer: `silu(gate) · up`.

use super::{Kernel, alike, shape};
use burn_tch::TchTensor;
use tch::Tensor;

#[derive(Debug)]
pub(super) struct SwiGlu;

impl Kernel<2> for SwiGlu {
    /// Gate and what it lets through.
    type State = [TchTensor; 2];

    fn takes(&self, inputs: &[TchTensor; 2]) -> bool {
        alike(inputs) && shape(&inputs[0]) == shape(&inputs[1])
    }

    fn forward(&self, [gate, up]: [TchTensor; 2]) -> (TchTensor, [TchTensor; 2]) {
        let out = gate.tensor.silu().g_mul_(&up.tensor);
        (TchTensor::new(out), [gate, up])
    }

    fn backward(
        self,
        [gate, up]: [TchTensor; 2],
        dy: &Tensor,
        wanted: [bool; 2],
    ) -> [Option<Tensor>; 2] {
        let (gate, up) = (&gate.tensor, &up.tensor);
        [
            wanted[0].then(|| gate.silu_backward(&(dy * up))),
            wanted[1].then(|| gate.silu().g_mul_(dy)),
        ]
    }
}
