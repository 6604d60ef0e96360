//! RMS norm over rows; 1 / root mean square is kept for the way back.

use super::math::sum;
use super::parallel::{fill, fill_beside, sum_over, vectorized};
use super::{Kernel, floats, made, shape};
use burn_flex::FlexTensor;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct RmsNorm {
    pub eps: f32,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    x: FlexTensor,
    weight: FlexTensor,
    /// 1 / root mean square of each row.
    rows: Arc<Vec<f32>>,
}

/// Rows of one share of the weight's gradient.
const ROWS: usize = 64;

impl Kernel<2> for RmsNorm {
    type State = State;

    fn takes(&self, [x, weight]: &[FlexTensor; 2]) -> bool {
        let width = shape(weight)[0];
        width > 0 && shape(x).last() == Some(&width)
    }

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, State) {
        let (xs, w) = (floats(&x), floats(&weight));
        let width = w.len();
        let mut rows = vec![0f32; xs.len() / width];
        let mut out = vec![0f32; xs.len()];
        fill_beside((&mut out, width), (&mut rows, 1), |out, rows, first| {
            vectorized!({
                let xs = xs[first * width..].chunks_exact(width);
                let outs = out.chunks_exact_mut(width);
                for ((out, x), row) in outs.zip(xs).zip(rows) {
                    let scale = 1.0 / (sum(x, x, |x, _| x * x) / width as f32 + self.eps).sqrt();
                    for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
                        *out = x * scale * w;
                    }
                    *row = scale;
                }
            });
        });
        let out = made(out, shape(&x));
        let rows = Arc::new(rows);
        (out, State { x, weight, rows })
    }

    fn backward(self, state: State, dy: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let State { x, weight, rows } = state;
        let (xs, w, dys) = (floats(&x), floats(&weight), floats(&dy));
        let width = w.len();
        let dx = wanted[0].then(|| {
            let mut dx = vec![0f32; xs.len()];
            fill(&mut dx, width, |dx, first| {
                vectorized!({
                    let xs = xs[first * width..].chunks_exact(width);
                    let dys = dys[first * width..].chunks_exact(width);
                    let dxs = dx.chunks_exact_mut(width);
                    for (((dx, x), dy), scale) in dxs.zip(xs).zip(dys).zip(&rows[first..]) {
                        row_backward(dx, x, dy, w, *scale);
                    }
                });
            });
            made(dx, shape(&x))
        });
        let dw = wanted[1].then(|| {
            let total = sum_over(rows.len(), ROWS, width, |share, group| {
                vectorized!({
                    for row in group {
                        let (x, dy) = (&xs[row * width..][..width], &dys[row * width..][..width]);
                        let scale = rows[row];
                        for ((dw, x), dy) in share.iter_mut().zip(x).zip(dy) {
                            *dw += dy * x * scale;
                        }
                    }
                });
            });
            made(total, &[width])
        });
        [dx, dw]
    }
}

#[inline(always)]
fn row_backward(dx: &mut [f32], x: &[f32], dy: &[f32], w: &[f32], scale: f32) {
    for ((dx, dy), w) in dx.iter_mut().zip(dy).zip(w) {
        *dx = dy * w;
    }
    let along = sum(dx, x, |up, x| up * x) * scale * scale / dx.len() as f32;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = scale * (*dx - x * along);
    }
}
