//! The gate of a SwiGLU layer: `silu(gate) · up`.

use super::math::sigmoid;
use super::parallel::{fill, vectorized};
use super::{Kernel, floats, made, shape};
use burn_flex::FlexTensor;

#[derive(Debug)]
pub(crate) struct SwiGlu;

impl Kernel<2> for SwiGlu {
    /// Gate and what it lets through.
    type State = [FlexTensor; 2];

    fn takes(&self, [gate, up]: &[FlexTensor; 2]) -> bool {
        shape(gate) == shape(up)
    }

    fn forward(&self, [gate, up]: [FlexTensor; 2]) -> (FlexTensor, [FlexTensor; 2]) {
        let (gates, ups) = (floats(&gate), floats(&up));
        let mut out = vec![0f32; gates.len()];
        fill(&mut out, 1, |out, first| {
            let (gates, ups) = (&gates[first..], &ups[first..]);
            vectorized!({
                for ((out, gate), up) in out.iter_mut().zip(gates).zip(ups) {
                    *out = gate * sigmoid(*gate) * up;
                }
            });
        });
        (made(out, shape(&gate)), [gate, up])
    }

    fn backward(
        self,
        [gate, up]: [FlexTensor; 2],
        dy: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let (gates, ups, dys) = (floats(&gate), floats(&up), floats(&dy));
        let to_gate = |out: &mut [f32], first: usize| {
            let (gates, ups, dys) = (&gates[first..], &ups[first..], &dys[first..]);
            vectorized!({
                for (((out, gate), up), dy) in out.iter_mut().zip(gates).zip(ups).zip(dys) {
                    let s = sigmoid(*gate);
                    *out = dy * up * (s + gate * s * (1.0 - s));
                }
            });
        };
        let to_up = |out: &mut [f32], first: usize| {
            let (gates, dys) = (&gates[first..], &dys[first..]);
            vectorized!({
                for ((out, gate), dy) in out.iter_mut().zip(gates).zip(dys) {
                    *out = dy * gate * sigmoid(*gate);
                }
            });
        };
        let all = |part: &(dyn Fn(&mut [f32], usize) + Sync)| {
            let mut out = vec![0f32; dys.len()];
            fill(&mut out, 1, part);
            made(out, shape(&gate))
        };
        [
            wanted[0].then(|| all(&to_gate)),
            wanted[1].then(|| all(&to_up)),
        ]
    }
}
