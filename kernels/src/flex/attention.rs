//! Attention of all heads from packed queries, keys and values: no copies of heads, and of the scores only those of one
//! image at a time. On the way back they are computed once more from the sums of their exponentials
//! (Dao et al., 2022, "FlashAttention", which does this for tiles).

use super::math::{exp, max, sum};
use super::matmul::{Matrix, matmul};
use super::parallel::vectorized;
use super::{Kernel, floats, made, shape};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Attention {
    pub heads: usize,
    /// `[1 or batch, 1, seq, seq]`.
    pub mask: Option<FlexTensor>,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    qkv: FlexTensor,
    out: FlexTensor,
    /// Of each image, head and query: the logarithm of the sum of its exponentials.
    sums: Arc<Vec<f32>>,
}

/// Scores below the largest by more than this weigh nothing: their weights would only be slow to multiply with.
const NOTHING: f32 = -80.0;

/// Shape of one image's part.
#[derive(Clone, Copy)]
struct Part {
    seq: usize,
    width: usize,
    head_dim: usize,
}

impl Part {
    /// Queries (0), keys (1) or values (2) of a head.
    fn of<'a>(&self, which: usize, qkv: &'a [f32], head: usize) -> Matrix<'a> {
        let start = which * self.width + head * self.head_dim;
        Matrix::new(&qkv[start..], self.seq, self.head_dim, 3 * self.width)
    }

    /// A head's columns of the output or its gradient.
    fn head<'a>(&self, out: &'a [f32], head: usize) -> Matrix<'a> {
        let start = head * self.head_dim;
        Matrix::new(&out[start..], self.seq, self.head_dim, self.width)
    }

    fn scale(&self) -> f32 {
        (self.head_dim as f64).powf(-0.5) as f32
    }

    /// `[seq, seq]` of scores with the mask.
    fn scores(&self, scores: &mut [f32], qkv: &[f32], head: usize, mask: Option<&[f32]>) {
        let (q, k) = (self.of(0, qkv, head), self.of(1, qkv, head));
        matmul(
            scores,
            self.seq,
            0.0,
            self.scale(),
            q,
            k.transposed(),
            false,
        );
        if let Some(mask) = mask {
            scores.iter_mut().zip(mask).for_each(|(a, b)| *a += b);
        }
    }
}

impl Attention {
    fn part(&self, qkv: &FlexTensor) -> Part {
        let width = shape(qkv)[2] / 3;
        Part {
            seq: shape(qkv)[1],
            width,
            head_dim: width / self.heads,
        }
    }

    /// The mask of an image.
    fn mask(&self, image: usize, seq: usize) -> Option<&[f32]> {
        let mask = self.mask.as_ref()?;
        let place = if shape(mask)[0] == 1 { 0 } else { image };
        Some(&floats(mask)[place * seq * seq..][..seq * seq])
    }
}

impl Kernel<1> for Attention {
    type State = State;

    fn takes(&self, [qkv]: &[FlexTensor; 1]) -> bool {
        let &[batch, seq, width] = shape(qkv) else {
            return false;
        };
        let mask_fits = self.mask.as_ref().is_none_or(|mask| {
            let &[images, heads, queries, keys] = shape(mask) else {
                return false;
            };
            (images == 1 || images == batch) && heads == 1 && [queries, keys] == [seq, seq]
        });
        let heads_fit = self.heads > 0 && width.is_multiple_of(3 * self.heads);
        mask_fits && heads_fit && batch * seq * width > 0
    }

    fn forward(&self, [qkv]: [FlexTensor; 1]) -> (FlexTensor, State) {
        let part = self.part(&qkv);
        let Part { seq, width, .. } = part;
        let batch = shape(&qkv)[0];
        let mut out = vec![0f32; batch * seq * width];
        let mut sums = vec![0f32; batch * self.heads * seq];
        let images = out.par_chunks_mut(seq * width);
        let images = images.zip(sums.par_chunks_mut(self.heads * seq));
        let images = images.zip(floats(&qkv).par_chunks(seq * 3 * width));
        images.enumerate().for_each(|(image, ((out, sums), qkv))| {
            let mask = self.mask(image, seq);
            let mut scores = vec![0f32; seq * seq];
            for (head, sums) in sums.chunks_exact_mut(seq).enumerate() {
                part.scores(&mut scores, qkv, head, mask);
                vectorized(|| {
                    for (row, log_sum) in scores.chunks_exact_mut(seq).zip(sums) {
                        *log_sum = softmax(row);
                    }
                });
                let weights = Matrix::new(&scores, seq, seq, seq);
                let values = part.of(2, qkv, head);
                let out = &mut out[head * part.head_dim..];
                matmul(out, width, 0.0, 1.0, weights, values, false);
            }
        });
        let out = made(out, &[batch, seq, width]);
        let state = State {
            qkv,
            out: out.clone(),
            sums: Arc::new(sums),
        };
        (out, state)
    }

    fn backward(self, state: State, dy: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let State { qkv, out, sums } = state;
        let part = self.part(&qkv);
        let Part {
            seq,
            width,
            head_dim,
        } = part;
        let mut dqkv = vec![0f32; floats(&qkv).len()];
        let images = dqkv.par_chunks_mut(seq * 3 * width);
        let images = images.zip(floats(&qkv).par_chunks(seq * 3 * width));
        let images = images.zip(floats(&out).par_chunks(seq * width));
        let images = images.zip(floats(&dy).par_chunks(seq * width));
        let images = images.zip(sums.par_chunks(self.heads * seq));
        images
            .enumerate()
            .for_each(|(image, ((((dqkv, qkv), out), dy), sums))| {
                let mask = self.mask(image, seq);
                let (mut weights, mut up) = (vec![0f32; seq * seq], vec![0f32; seq * seq]);
                for (head, sums) in sums.chunks_exact(seq).enumerate() {
                    part.scores(&mut weights, qkv, head, mask);
                    let dy = part.head(dy, head);
                    let (q, k, v) = (
                        part.of(0, qkv, head),
                        part.of(1, qkv, head),
                        part.of(2, qkv, head),
                    );
                    matmul(&mut up, seq, 0.0, 1.0, dy, v.transposed(), false);
                    vectorized(|| {
                        let rows = weights.chunks_exact_mut(seq).zip(up.chunks_exact_mut(seq));
                        for (row, ((weights, up), log_sum)) in rows.zip(sums).enumerate() {
                            let out = &out[row * width + head * head_dim..][..head_dim];
                            let dy = &dy.values[row * width..][..head_dim];
                            let mean = sum(out, dy, |a, b| a * b);
                            for (weight, up) in weights.iter_mut().zip(up) {
                                *weight = weight_of(*weight - log_sum);
                                *up = *weight * (*up - mean);
                            }
                        }
                    });
                    let weights = Matrix::new(&weights, seq, seq, seq);
                    let up = Matrix::new(&up, seq, seq, seq);
                    let scale = part.scale();
                    let place = |which: usize| which * width + head * head_dim;
                    let (to_q, to_k, to_v) = (place(0), place(1), place(2));
                    matmul(&mut dqkv[to_q..], 3 * width, 0.0, scale, up, k, false);
                    matmul(
                        &mut dqkv[to_k..],
                        3 * width,
                        0.0,
                        scale,
                        up.transposed(),
                        q,
                        false,
                    );
                    matmul(
                        &mut dqkv[to_v..],
                        3 * width,
                        0.0,
                        1.0,
                        weights.transposed(),
                        dy,
                        false,
                    );
                }
            });
        [Some(made(dqkv, shape(&qkv)))]
    }
}

/// Scores of a row to weights; gives the logarithm of the sum of their exponentials.
#[inline(always)]
fn softmax(row: &mut [f32]) -> f32 {
    let largest = max(row);
    for score in &mut *row {
        *score = weight_of(*score - largest);
    }
    let total = sum(row, row, |x, _| x);
    for weight in row {
        *weight /= total;
    }
    largest + total.ln()
}

#[inline(always)]
fn weight_of(score: f32) -> f32 {
    let weight = exp(score);
    if score < NOTHING { 0.0 } else { weight }
}
