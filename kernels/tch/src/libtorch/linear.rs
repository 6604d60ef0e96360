//! A linear layer with its bias in one call.

use super::{Kernel, alike, shape};
use burn_tch::TchTensor;
use tch::Tensor;

#[derive(Debug)]
pub(super) struct Linear;

impl Kernel<3> for Linear {
    /// Input and weight.
    type State = [TchTensor; 2];

    fn takes(&self, inputs: &[TchTensor; 3]) -> bool {
        let [x, weight, bias] = inputs.each_ref().map(shape);
        alike(inputs) && x[1] == weight[1] && bias == [weight[0]]
    }

    fn forward(&self, [x, weight, bias]: [TchTensor; 3]) -> (TchTensor, [TchTensor; 2]) {
        let out = bias.tensor.addmm(&x.tensor, &weight.tensor.tr());
        (TchTensor::new(out), [x, weight])
    }

    fn backward(
        self,
        [x, weight]: [TchTensor; 2],
        dy: &Tensor,
        wanted: [bool; 3],
    ) -> [Option<Tensor>; 3] {
        [
            wanted[0].then(|| dy.matmul(&weight.tensor)),
            wanted[1].then(|| dy.tr().matmul(&x.tensor)),
            wanted[2].then(|| dy.sum_dim_intlist([0i64].as_slice(), false, None)),
        ]
    }
}
