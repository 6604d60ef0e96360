//! GELU in its forms, element by element.

use super::Kernel;
use burn_tch::TchTensor;
use kernels::Activation;
use tch::{Kind, Tensor};

#[derive(Debug)]
pub(super) struct Activate(pub Activation);

const QUICK: f64 = 1.702;

/// LibTorch's name of a form of GELU; QuickGELU it does not know.
fn form(kind: Activation) -> Option<&'static str> {
    match kind {
        Activation::Gelu => Some("none"),
        Activation::GeluTanh => Some("tanh"),
        Activation::QuickGelu => None,
    }
}

/// QuickGELU of x is `silu(1.702 x) / 1.702`; this is what the silu is taken of, in f32, since 1.702 is not a bf16 number.
fn inner(x: &Tensor) -> Tensor {
    match x.kind() {
        Kind::Float => x * QUICK,
        _ => x.to_kind(Kind::Float).g_mul_scalar_(QUICK),
    }
}

impl Kernel<1> for Activate {
    type State = TchTensor;

    fn takes(&self, _: &[TchTensor; 1]) -> bool {
        true
    }

    fn forward(&self, [x]: [TchTensor; 1]) -> (TchTensor, TchTensor) {
        let out = match form(self.0) {
            Some(form) => x.tensor.gelu(form),
            None => {
                let out = inner(&x.tensor).silu_().g_mul_scalar_(1.0 / QUICK);
                out.to_kind(x.tensor.kind())
            }
        };
        (TchTensor::new(out), x)
    }

    fn backward(self, x: TchTensor, dy: &Tensor, _: [bool; 1]) -> [Option<Tensor>; 1] {
        let x = &x.tensor;
        [Some(match form(self.0) {
            Some(form) => x.gelu_backward(dy, form),
            None => {
                let dx = inner(x).silu_backward(&dy.to_kind(Kind::Float));
                dx.to_kind(x.kind())
            }
        })]
    }
}
