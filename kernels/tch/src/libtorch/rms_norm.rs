//! RMS norm over rows, in f32; 1 / root mean square is kept for the way back.

use super::{Kernel, shape};
use burn_tch::TchTensor;
use tch::{Kind, Tensor};

#[derive(Debug)]
pub(super) struct RmsNorm {
    pub eps: f64,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    x: TchTensor,
    weight: TchTensor,
    /// 1 / root mean square, `[rows, 1]`.
    scale: TchTensor,
}

/// `[rows, width]` in f32.
fn rows(x: &Tensor, width: i64) -> Tensor {
    x.reshape([-1, width]).to_kind(Kind::Float)
}

impl Kernel<2> for RmsNorm {
    type State = State;

    fn takes(&self, [x, weight]: &[TchTensor; 2]) -> bool {
        let (x, width) = (shape(x), shape(weight)[0]);
        width > 0 && x.last() == Some(&width) && !x.contains(&0)
    }

    fn forward(&self, [x, weight]: [TchTensor; 2]) -> (TchTensor, State) {
        let width = shape(&weight)[0];
        let xs = rows(&x.tensor, width);
        let length = xs.norm_scalaropt_dim(2, [1i64].as_slice(), true);
        let mean = length.square().g_mul_scalar_(1.0 / width as f64);
        let scale = mean.g_add_scalar(self.eps).rsqrt();
        let w = weight.tensor.to_kind(Kind::Float);
        let out = (&xs * &scale).g_mul_(&w).to_kind(x.tensor.kind());
        let out = TchTensor::new(out.reshape(shape(&x)));
        let scale = TchTensor::new(scale);
        (out, State { x, weight, scale })
    }

    fn backward(self, state: State, dy: &Tensor, wanted: [bool; 2]) -> [Option<Tensor>; 2] {
        let State { x, weight, scale } = &state;
        let width = shape(weight)[0];
        let (xs, dys) = (rows(&x.tensor, width), rows(dy, width));
        let (w, scale) = (weight.tensor.to_kind(Kind::Float), &scale.tensor);
        let along = &xs * &dys;
        let dx = wanted[0].then(|| {
            let share = along.mv(&w).unsqueeze(1) * scale.square() * (-1.0 / width as f64);
            let dx = (&dys * &w).addcmul_(&xs, &share).g_mul_(scale);
            dx.to_kind(x.tensor.kind()).reshape(shape(x))
        });
        let dw = wanted[1].then(|| {
            let dw = along.tr().mv(&scale.squeeze_dim(1));
            dw.to_kind(weight.tensor.kind())
        });
        [dx, dw]
    }
}
