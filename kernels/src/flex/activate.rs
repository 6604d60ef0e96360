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
        let out = match self.0 {
            Activation::Gelu => each::<Gelu>(&x),
            Activation::GeluTanh => each::<GeluTanh>(&x),
            Activation::QuickGelu => each::<QuickGelu>(&x),
        };
        (out, x)
    }

    fn backward(self, x: FlexTensor, dy: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(match self.0 {
            Activation::Gelu => along::<Gelu>(&x, &dy),
            Activation::GeluTanh => along::<GeluTanh>(&x, &dy),
            Activation::QuickGelu => along::<QuickGelu>(&x, &dy),
        })]
    }
}

/// A function of one float. A type and not a value: a function that is passed as a value is called through one around it, which is
/// not inlined, and the loop is no vectors.
trait Curve {
    fn value(x: f32) -> f32;
    fn slope(x: f32) -> f32;
}

struct Gelu;
struct GeluTanh;
struct QuickGelu;

impl Curve for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let below = 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2));
        below + x * DENSITY * exp(-0.5 * x * x)
    }
}

impl Curve for GeluTanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(2.0 * inner(x))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let (c, a) = TANH;
        let s = sigmoid(2.0 * inner(x));
        s + x * s * (1.0 - s) * 2.0 * c * (1.0 + 3.0 * a * x * x)
    }
}

impl Curve for QuickGelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(QUICK * x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(QUICK * x);
        s + QUICK * x * s * (1.0 - s)
    }
}

/// What the tanh is taken of.
#[inline(always)]
fn inner(x: f32) -> f32 {
    let (c, a) = TANH;
    c * (x + a * x * x * x)
}

/// The value at each element.
fn each<C: Curve>(x: &FlexTensor) -> FlexTensor {
    let xs = floats(x);
    let mut out = vec![0f32; xs.len()];
    fill(&mut out, 1, |out, first| {
        let xs = &xs[first..first + out.len()];
        vectorized!({
            for (out, x) in out.iter_mut().zip(xs) {
                *out = C::value(*x);
            }
        });
    });
    made(out, shape(x))
}

/// Each element of `dy` by the slope at that of `x`.
fn along<C: Curve>(x: &FlexTensor, dy: &FlexTensor) -> FlexTensor {
    let (xs, dys) = (floats(x), floats(dy));
    let mut out = vec![0f32; xs.len()];
    fill(&mut out, 1, |out, first| {
        let xs = &xs[first..first + out.len()];
        let dys = &dys[first..first + out.len()];
        vectorized!({
            for ((out, x), dy) in out.iter_mut().zip(xs).zip(dys) {
                *out = dy * C::slope(*x);
            }
        });
    });
    made(out, shape(x))
}
