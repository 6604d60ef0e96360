//! Layer norm over rows: mean and variance in one go, mean and 1 / deviation kept for the way back.

use super::math::sum;
use super::parallel::{fill, fill_beside, sum_over, vectorized};
use super::{Kernel, floats, made, shape};
use burn_flex::FlexTensor;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub eps: f32,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    x: FlexTensor,
    weight: FlexTensor,
    /// Mean and 1 / deviation of each row.
    rows: Arc<Vec<f32>>,
}

/// Rows of one share of the weights' gradients.
const ROWS: usize = 64;

impl Kernel<3> for LayerNorm {
    type State = State;

    fn takes(&self, [x, weight, bias]: &[FlexTensor; 3]) -> bool {
        let width = shape(weight)[0];
        width > 0 && shape(x).last() == Some(&width) && shape(bias) == [width]
    }

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, State) {
        let (xs, w, b) = (floats(&x), floats(&weight), floats(&bias));
        let width = w.len();
        let mut rows = vec![0f32; xs.len() / width * 2];
        let mut out = vec![0f32; xs.len()];
        fill_beside((&mut out, width), (&mut rows, 2), |out, rows, first| {
            vectorized!({
                let xs = xs[first * width..].chunks_exact(width);
                let rows = rows.chunks_exact_mut(2);
                for ((out, x), row) in out.chunks_exact_mut(width).zip(xs).zip(rows) {
                    let mean = sum(x, x, |x, _| x) / width as f32;
                    let variance = sum(x, x, |x, _| (x - mean) * (x - mean)) / width as f32;
                    let scale = 1.0 / (variance + self.eps).sqrt();
                    for (((out, x), w), b) in out.iter_mut().zip(x).zip(w).zip(b) {
                        *out = (x - mean) * scale * w + b;
                    }
                    row.copy_from_slice(&[mean, scale]);
                }
            });
        });
        let out = made(out, shape(&x));
        let rows = Arc::new(rows);
        (out, State { x, weight, rows })
    }

    fn backward(self, state: State, dy: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let State { x, weight, rows } = state;
        let (xs, w, dys) = (floats(&x), floats(&weight), floats(&dy));
        let width = w.len();
        let dx = wanted[0].then(|| {
            let mut dx = vec![0f32; xs.len()];
            fill(&mut dx, width, |dx, first| {
                vectorized!({
                    let xs = xs[first * width..].chunks_exact(width);
                    let dys = dys[first * width..].chunks_exact(width);
                    let rows = rows[first * 2..].chunks_exact(2);
                    let dxs = dx.chunks_exact_mut(width);
                    for (((dx, x), dy), row) in dxs.zip(xs).zip(dys).zip(rows) {
                        row_backward(dx, x, dy, w, row[0], row[1]);
                    }
                });
            });
            made(dx, shape(&x))
        });
        if !wanted[1] && !wanted[2] {
            return [dx, None, None];
        }
        // The gradient of the weight, then that of the bias.
        let mut total = sum_over(rows.len() / 2, ROWS, 2 * width, |share, group| {
            vectorized!({
                let (dw, db) = share.split_at_mut(width);
                let floats = group.start * width..group.end * width;
                let xs = xs[floats.clone()].chunks_exact(width);
                let xs = xs.zip(dys[floats].chunks_exact(width));
                let rows = rows[2 * group.start..2 * group.end].chunks_exact(2);
                for ((x, dy), row) in xs.zip(rows) {
                    let (mean, scale) = (row[0], row[1]);
                    let sums = dw.iter_mut().zip(db.iter_mut());
                    for ((dw, db), (x, dy)) in sums.zip(x.iter().zip(dy)) {
                        *dw += dy * (x - mean) * scale;
                        *db += dy;
                    }
                }
            });
        });
        let db = total.split_off(width);
        [
            dx,
            wanted[1].then(|| made(total, &[width])),
            wanted[2].then(|| made(db, &[width])),
        ]
    }
}

#[inline(always)]
fn row_backward(dx: &mut [f32], x: &[f32], dy: &[f32], w: &[f32], mean: f32, scale: f32) {
    let n = dx.len() as f32;
    for ((dx, dy), w) in dx.iter_mut().zip(dy).zip(w) {
        *dx = dy * w;
    }
    let plain = sum(dx, dx, |up, _| up) / n;
    let along = sum(dx, x, |up, x| up * (x - mean)) * scale / n;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = scale * (*dx - plain - (x - mean) * scale * along);
    }
}
