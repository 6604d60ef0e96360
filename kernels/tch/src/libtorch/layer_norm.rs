//! Layer norm: mean and 1 / deviation of each row are kept for the way back.

use super::{Kernel, alike, calls, shape};
use burn_tch::TchTensor;
use tch::Tensor;

#[derive(Debug)]
pub(super) struct LayerNorm {
    pub eps: f64,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub x: TchTensor,
    pub weight: TchTensor,
    pub bias: TchTensor,
    pub mean: TchTensor,
    pub scale: TchTensor,
}

impl Kernel<3> for LayerNorm {
    type State = State;

    fn takes(&self, inputs: &[TchTensor; 3]) -> bool {
        let [x, weight, bias] = inputs.each_ref().map(shape);
        alike(inputs) && weight[0] > 0 && x.last() == Some(&weight[0]) && bias == weight
    }

    fn forward(&self, [x, weight, bias]: [TchTensor; 3]) -> (TchTensor, State) {
        let affine = [&weight, &bias].map(|tensor| Some(&tensor.tensor));
        let [w, b] = affine;
        let (out, mean, scale) = x.tensor.native_layer_norm(shape(&weight), w, b, self.eps);
        let [out, mean, scale] = [out, mean, scale].map(TchTensor::new);
        let state = State {
            x,
            weight,
            bias,
            mean,
            scale,
        };
        (out, state)
    }

    fn backward(self, state: State, dy: &Tensor, wanted: [bool; 3]) -> [Option<Tensor>; 3] {
        calls::layer_norm_backward(dy, &state, wanted)
    }
}
