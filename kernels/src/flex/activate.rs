//! GELU in its forms, element by element.

use super::math::{erf, exp, sigmoid};
use super::parallel::{fill, vectorized};
use super::{Kernel, floats, made, shape};
use crate::Activation;
use burn_flex::FlexTensor;
use std::f32::consts::FRAC_1_SQRT_2;

#[derive(Debug)]
pub(crate) struct Activate(pub Activation);

/// 1 / √(2π).
const DENSITY: f32 = 0.398_942_3;
/// Of GELU's tanh form: √(2/π), and the share of x³.
const TANH: (f32, f32) = (0.797_884_6, 0.044_715);
const QUICK: f32 = 1.702;

impl Kernel<1> for Activate {
    type State = FlexTensor;

    fn takes(&self, _: &[FlexTensor; 1]) -> bool {
        true
    }

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, FlexTensor) {
        let one: [&FlexTensor; 1] = [&x];
        let out = match self.0 {
            Activation::Gelu => map(one, |[x]| 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))),
            Activation::GeluTanh => map(one, |[x]| x * sigmoid(2.0 * inner(x))),
            Activation::QuickGelu => map(one, |[x]| x * sigmoid(QUICK * x)),
        };
        (out, x)
    }

    fn backward(self, x: FlexTensor, dy: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let two = [&x, &dy];
        [Some(match self.0 {
            Activation::Gelu => map(two, |[x, dy]| {
                let below = 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2));
                dy * (below + x * DENSITY * exp(-0.5 * x * x))
            }),
            Activation::GeluTanh => map(two, |[x, dy]| {
                let (c, a) = TANH;
                let s = sigmoid(2.0 * inner(x));
                dy * (s + x * s * (1.0 - s) * 2.0 * c * (1.0 + 3.0 * a * x * x))
            }),
            Activation::QuickGelu => map(two, |[x, dy]| {
                let s = sigmoid(QUICK * x);
                dy * (s + QUICK * x * s * (1.0 - s))
            }),
        })]
    }
}

/// What the tanh is taken of.
#[inline(always)]
fn inner(x: f32) -> f32 {
    let (c, a) = TANH;
    c * (x + a * x * x * x)
}

/// `f` of the elements of tensors of one shape.
fn map<const N: usize>(inputs: [&FlexTensor; N], f: impl Fn([f32; N]) -> f32 + Sync) -> FlexTensor {
    let slices = inputs.map(floats);
    let mut out = vec![0f32; slices[0].len()];
    fill(&mut out, 1, |out, first| {
        let n = out.len();
        let slices = slices.map(|slice| &slice[first..first + n]);
        vectorized(|| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = f(slices.map(|slice| slice[i]));
            }
        });
    });
    made(out, shape(inputs[0]))
}
