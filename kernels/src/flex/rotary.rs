//! Rotary positions in the half-rotation form, on the heads of a row where they lie.

use super::parallel::{fill, vectorized};
use super::{Kernel, floats, made, shape};
use burn_flex::FlexTensor;

/// Cosines and sines, `[1 or batch, seq, 1, head_dim]`.
#[derive(Debug)]
pub(crate) struct Rotary {
    pub cos: FlexTensor,
    pub sin: FlexTensor,
}

impl Rotary {
    fn dim(&self) -> usize {
        shape(&self.cos)[3]
    }

    /// Writes every row of `x` with its heads turned, or turned back.
    fn turn(&self, x: &FlexTensor, back: bool) -> FlexTensor {
        let (seq, width, dim) = (shape(x)[1], shape(x)[2], self.dim());
        let (xs, cos, sin) = (floats(x), floats(&self.cos), floats(&self.sin));
        let positions = shape(&self.cos)[0] * seq;
        let mut out = vec![0f32; xs.len()];
        fill(&mut out, width, |out, first| {
            vectorized!({
                let rows = out.chunks_exact_mut(width);
                for (row, (out, x)) in rows.zip(xs[first * width..].chunks(width)).enumerate() {
                    let place = (first + row) % positions * dim;
                    let (cos, sin) = (&cos[place..][..dim], &sin[place..][..dim]);
                    let heads = out.chunks_exact_mut(dim).zip(x.chunks_exact(dim));
                    heads.for_each(|(out, x)| turn(out, x, cos, sin, back));
                }
            });
        });
        made(out, shape(x))
    }
}

#[inline(always)]
fn turn(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], back: bool) {
    let half = out.len() / 2;
    let (low, high) = out.split_at_mut(half);
    let ((x_low, x_high), (c_low, c_high)) = (x.split_at(half), cos.split_at(half));
    let (s_low, s_high) = sin.split_at(half);
    // A turn back takes its sines from the other half: they need not be those of one angle.
    let (s_low, s_high) = if back {
        (s_high, s_low)
    } else {
        (s_low, s_high)
    };
    let sign = if back { -1.0 } else { 1.0 };
    for ((out, (x, other)), (c, s)) in
        (low.iter_mut().zip(x_low.iter().zip(x_high))).zip(c_low.iter().zip(s_low))
    {
        *out = x * c - sign * other * s;
    }
    for ((out, (x, other)), (c, s)) in
        (high.iter_mut().zip(x_high.iter().zip(x_low))).zip(c_high.iter().zip(s_high))
    {
        *out = x * c + sign * other * s;
    }
}

impl Kernel<1> for Rotary {
    type State = ();

    fn takes(&self, [x]: &[FlexTensor; 1]) -> bool {
        let (&[batch, seq, width], &[images, places, 1, dim]) = (shape(x), shape(&self.cos)) else {
            return false;
        };
        let tables = shape(&self.sin) == shape(&self.cos) && places == seq;
        let heads = dim > 0 && dim.is_multiple_of(2) && width.is_multiple_of(dim);
        tables && heads && (images == 1 || images == batch) && batch * seq * width > 0
    }

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        (self.turn(&x, false), ())
    }

    fn backward(self, (): (), dy: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.turn(&dy, true))]
    }
}
