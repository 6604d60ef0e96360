//! Attention of all heads, where they lie in the rows of queries, keys and values: no copies of heads, and of the scores only
//! those of one head of one image at a time. On the way back they are computed once more, with the sums of their exponentials
//! (Dao et al., 2022, "FlashAttention", which does this for tiles).

use super::math::{exp, max, sum};
use super::matmul::{Matrix, matmul};
use super::parallel::vectorized;
use super::{Kernel, floats, made, shape};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use std::sync::Arc;

/// Queries, keys and values side by side in one tensor, as many heads of each.
#[derive(Debug)]
pub(crate) struct Packed {
    pub heads: usize,
    /// `[1 or batch, 1, seq, seq]`.
    pub mask: Option<FlexTensor>,
}

/// Queries, keys and values in a tensor each; several heads of queries share one of keys and values.
#[derive(Debug)]
pub(crate) struct Grouped {
    pub heads: usize,
    pub shared: usize,
    /// `[1 or batch, 1, 1 or seq or heads / shared · seq, keys]`.
    pub mask: Option<FlexTensor>,
}

#[derive(Clone, Debug)]
pub(crate) struct State<const N: usize> {
    inputs: [FlexTensor; N],
    out: FlexTensor,
    /// Of each image, head and query: its largest score, and 1 / the sum of exponentials above that. Their logarithm, which would
    /// be one number, loses the sum where the largest is far from 0, as where all keys are masked.
    sums: Arc<Vec<f32>>,
}

/// Scores below the largest by more than this weigh nothing: their weights would only be slow to multiply with.
const NOTHING: f32 = -80.0;

/// Queries, keys, values.
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;

/// Shape of one image's part, and where its heads lie.
#[derive(Clone, Copy)]
struct Part {
    /// Of queries and of keys.
    seq: [usize; 2],
    head_dim: usize,
    heads: usize,
    /// Heads of queries that share one of keys and values.
    group: usize,
    /// Width of the rows of queries, keys and values, and their first column.
    rows: [(usize, usize); 3],
}

impl Part {
    /// The column where a head of queries, or what it sees of keys and values, begins.
    fn column(&self, which: usize, head: usize) -> usize {
        let head = if which == Q { head } else { head / self.group };
        self.rows[which].1 + head * self.head_dim
    }

    fn of<'a>(&self, which: usize, values: [&'a [f32]; 3], head: usize) -> Matrix<'a> {
        let seq = self.seq[usize::from(which != Q)];
        let values = &values[which][self.column(which, head)..];
        Matrix::new(values, seq, self.head_dim, self.rows[which].0)
    }

    /// Width of the rows of the output.
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn scale(&self) -> f32 {
        (self.head_dim as f64).powf(-0.5) as f32
    }

    /// `[seq, keys]` of scores with the mask.
    fn scores(
        &self,
        scores: &mut [f32],
        inputs: [&[f32]; 3],
        head: usize,
        mask: Option<&Mask>,
        image: usize,
    ) {
        let keys = self.seq[1];
        let (q, k) = (self.of(Q, inputs, head), self.of(K, inputs, head));
        let k = k.transposed();
        matmul(scores, keys, 0.0, self.scale(), q, k, false);
        if let Some(mask) = mask {
            vectorized!({
                for (query, row) in scores.chunks_exact_mut(keys).enumerate() {
                    let mask = mask.row(image, head % self.group * self.seq[0] + query);
                    row.iter_mut().zip(mask).for_each(|(a, b)| *a += b);
                }
            });
        }
    }

    fn forward(
        &self,
        image: usize,
        inputs: [&[f32]; 3],
        mask: Option<&Mask>,
        out: &mut [f32],
        sums: &mut [f32],
    ) {
        let [seq, keys] = self.seq;
        let mut scores = vec![0f32; seq * keys];
        for (head, sums) in sums.chunks_exact_mut(2 * seq).enumerate() {
            self.scores(&mut scores, inputs, head, mask, image);
            vectorized!({
                let rows = scores.chunks_exact_mut(keys);
                for (row, sums) in rows.zip(sums.chunks_exact_mut(2)) {
                    sums.copy_from_slice(&softmax(row));
                }
            });
            let weights = Matrix::new(&scores, seq, keys, keys);
            let values = self.of(V, inputs, head);
            let out = &mut out[head * self.head_dim..];
            matmul(out, self.width(), 0.0, 1.0, weights, values, false);
        }
    }

    fn backward(
        &self,
        image: usize,
        inputs: [&[f32]; 3],
        mask: Option<&Mask>,
        seen: Seen,
        gradients: &mut Gradients,
    ) {
        let ([seq, keys], width, dim) = (self.seq, self.width(), self.head_dim);
        let (mut weights, mut up) = (vec![0f32; seq * keys], vec![0f32; seq * keys]);
        for (head, sums) in seen.sums.chunks_exact(2 * seq).enumerate() {
            self.scores(&mut weights, inputs, head, mask, image);
            let (out, dy) = (&seen.out[head * dim..], &seen.dy[head * dim..]);
            let dys = Matrix::new(dy, seq, dim, width);
            let [q, k, v] = [Q, K, V].map(|which| self.of(which, inputs, head));
            matmul(&mut up, keys, 0.0, 1.0, dys, v.transposed(), false);
            vectorized!({
                let rows = weights
                    .chunks_exact_mut(keys)
                    .zip(up.chunks_exact_mut(keys));
                let rows = rows.zip(sums.chunks_exact(2));
                for (row, ((weights, up), sums)) in rows.enumerate() {
                    let (largest, inverse) = (sums[0], sums[1]);
                    let (out, dy) = (&out[row * width..][..dim], &dy[row * width..][..dim]);
                    let mean = sum(out, dy, |a, b| a * b);
                    for (weight, up) in weights.iter_mut().zip(up) {
                        *weight = weight_of(*weight - largest) * inverse;
                        *up = *weight * (*up - mean);
                    }
                }
            });
            let weights = Matrix::new(&weights, seq, keys, keys);
            let up = Matrix::new(&up, seq, keys, keys);
            // A head of keys and values collects from all queries that share it.
            let before = if head % self.group == 0 { 0.0 } else { 1.0 };
            let mut add = |which: usize, before: f32, scale: f32, left: Matrix, right: Matrix| {
                let target = &mut gradients.of(which)[self.column(which, head)..];
                let stride = self.rows[which].0;
                matmul(target, stride, before, scale, left, right, false);
            };
            add(Q, 0.0, self.scale(), up, k);
            add(K, before, self.scale(), up.transposed(), q);
            add(V, before, 1.0, weights.transposed(), dys);
        }
    }
}

/// What the way back knows of an image.
struct Seen<'a> {
    out: &'a [f32],
    dy: &'a [f32],
    sums: &'a [f32],
}

/// Gradients of an image's queries, keys and values.
enum Gradients<'a> {
    Together(&'a mut [f32]),
    Apart([&'a mut [f32]; 3]),
}

impl Gradients<'_> {
    fn of(&mut self, which: usize) -> &mut [f32] {
        match self {
            Self::Together(all) => all,
            Self::Apart(three) => three[which],
        }
    }
}

/// What is added to the scores.
struct Mask<'a> {
    values: &'a [f32],
    images: usize,
    rows: usize,
    keys: usize,
}

impl<'a> Mask<'a> {
    fn new(mask: &'a FlexTensor) -> Self {
        let shape = shape(mask);
        Self {
            values: floats(mask),
            images: shape[0],
            rows: shape[2],
            keys: shape[3],
        }
    }

    /// Of a query, counted over the heads that share keys and values: the rows may be those of all of them, of one, or one row.
    fn row(&self, image: usize, query: usize) -> &'a [f32] {
        let image = if self.images == 1 { 0 } else { image };
        let start = (image * self.rows + query % self.rows) * self.keys;
        &self.values[start..start + self.keys]
    }

    fn fits(mask: &FlexTensor, batch: usize, rows: &[usize], keys: usize) -> bool {
        let &[images, heads, queries, seen] = shape(mask) else {
            return false;
        };
        (images == 1 || images == batch) && heads == 1 && rows.contains(&queries) && seen == keys
    }
}

/// Output and sums of all images.
fn forward<'a>(
    part: &Part,
    batch: usize,
    mask: Option<&FlexTensor>,
    inputs: impl Fn(usize) -> [&'a [f32]; 3] + Sync,
) -> (FlexTensor, Arc<Vec<f32>>) {
    let mask = mask.map(Mask::new);
    let (seq, width) = (part.seq[0], part.width());
    let mut out = vec![0f32; batch * seq * width];
    let mut sums = vec![0f32; batch * part.heads * 2 * seq];
    let images = out.par_chunks_mut(seq * width);
    let images = images.zip(sums.par_chunks_mut(part.heads * 2 * seq));
    images.enumerate().for_each(|(image, (out, sums))| {
        part.forward(image, inputs(image), mask.as_ref(), out, sums);
    });
    (made(out, &[batch, seq, width]), Arc::new(sums))
}

/// Fills the gradients of all images.
fn backward<'a, const N: usize>(
    part: &Part,
    mask: Option<&FlexTensor>,
    state: &State<N>,
    dy: &FlexTensor,
    inputs: impl Fn(usize) -> [&'a [f32]; 3] + Sync,
    gradients: Vec<Gradients>,
) {
    let mask = mask.map(Mask::new);
    let (row, sums) = (part.seq[0] * part.width(), part.heads * 2 * part.seq[0]);
    let (out, dy) = (floats(&state.out), floats(dy));
    let images = gradients.into_par_iter().enumerate();
    images.for_each(|(image, mut gradients)| {
        let seen = Seen {
            out: &out[image * row..][..row],
            dy: &dy[image * row..][..row],
            sums: &state.sums[image * sums..][..sums],
        };
        part.backward(image, inputs(image), mask.as_ref(), seen, &mut gradients);
    });
}

impl Packed {
    fn part(&self, qkv: &FlexTensor) -> Part {
        let (seq, width) = (shape(qkv)[1], shape(qkv)[2] / 3);
        Part {
            seq: [seq; 2],
            head_dim: width / self.heads,
            heads: self.heads,
            group: 1,
            rows: [Q, K, V].map(|which| (3 * width, which * width)),
        }
    }
}

/// An image's stretch, three times.
fn thrice<'a>(qkv: &'a FlexTensor) -> impl Fn(usize) -> [&'a [f32]; 3] + Sync {
    let (values, size) = (floats(qkv), shape(qkv)[1] * shape(qkv)[2]);
    move |image| [&values[image * size..][..size]; 3]
}

impl Kernel<1> for Packed {
    type State = State<1>;

    fn takes(&self, [qkv]: &[FlexTensor; 1]) -> bool {
        let &[batch, seq, width] = shape(qkv) else {
            return false;
        };
        let mask = self.mask.as_ref();
        let mask_fits = mask.is_none_or(|mask| Mask::fits(mask, batch, &[seq], seq));
        let heads_fit = self.heads > 0 && width.is_multiple_of(3 * self.heads);
        mask_fits && heads_fit && batch * seq * width > 0
    }

    fn forward(&self, [qkv]: [FlexTensor; 1]) -> (FlexTensor, State<1>) {
        let (part, batch) = (self.part(&qkv), shape(&qkv)[0]);
        let (out, sums) = forward(&part, batch, self.mask.as_ref(), thrice(&qkv));
        let state = State {
            inputs: [qkv],
            out: out.clone(),
            sums,
        };
        (out, state)
    }

    fn backward(self, state: State<1>, dy: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [qkv] = &state.inputs;
        let part = self.part(qkv);
        let mut gradient = vec![0f32; floats(qkv).len()];
        let images = gradient.chunks_mut(shape(qkv)[1] * shape(qkv)[2]);
        let images = images.map(Gradients::Together).collect();
        let mask = self.mask.as_ref();
        backward(&part, mask, &state, &dy, thrice(qkv), images);
        [Some(made(gradient, shape(qkv)))]
    }
}

impl Grouped {
    fn part(&self, [q, k, v]: [&FlexTensor; 3]) -> Part {
        Part {
            seq: [shape(q)[1], shape(k)[1]],
            head_dim: shape(q)[2] / self.heads,
            heads: self.heads,
            group: self.heads / self.shared,
            rows: [q, k, v].map(|tensor| (shape(tensor)[2], 0)),
        }
    }
}

/// An image's queries, keys and values.
fn three<'a>(tensors: [&'a FlexTensor; 3]) -> impl Fn(usize) -> [&'a [f32]; 3] + Sync {
    let parts = tensors.map(|tensor| (floats(tensor), shape(tensor)[1] * shape(tensor)[2]));
    move |image| parts.map(|(values, size)| &values[image * size..][..size])
}

impl Kernel<3> for Grouped {
    type State = State<3>;

    fn takes(&self, [q, k, v]: &[FlexTensor; 3]) -> bool {
        let (&[batch, seq, width], &[images, keys, shared_width]) = (shape(q), shape(k)) else {
            return false;
        };
        let (heads, shared) = (self.heads, self.shared);
        if heads == 0
            || shared == 0
            || !heads.is_multiple_of(shared)
            || !width.is_multiple_of(heads)
        {
            return false;
        }
        let rows = [1, seq, heads / shared * seq];
        let mask = self.mask.as_ref();
        shape(k) == shape(v)
            && batch == images
            && shared_width == width / heads * shared
            && mask.is_none_or(|mask| Mask::fits(mask, batch, &rows, keys))
            && batch * seq * keys * width > 0
    }

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, State<3>) {
        let [q, k, v] = inputs.each_ref();
        let (part, batch) = (self.part([q, k, v]), shape(q)[0]);
        let (out, sums) = forward(&part, batch, self.mask.as_ref(), three([q, k, v]));
        let state = State {
            inputs,
            out: out.clone(),
            sums,
        };
        (out, state)
    }

    fn backward(
        self,
        state: State<3>,
        dy: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let inputs = state.inputs.each_ref();
        let part = self.part(inputs);
        let mut gradients = inputs.map(|input| vec![0f32; floats(input).len()]);
        let [q, k, v] = &mut gradients;
        let chunk = |which: usize| shape(inputs[which])[1] * shape(inputs[which])[2];
        let images = q.chunks_mut(chunk(Q)).zip(k.chunks_mut(chunk(K)));
        let images = images.zip(v.chunks_mut(chunk(V)));
        let images = images.map(|((q, k), v)| Gradients::Apart([q, k, v]));
        let (mask, images) = (self.mask.as_ref(), images.collect());
        backward(&part, mask, &state, &dy, three(inputs), images);
        let mut which = 0;
        gradients.map(|gradient| {
            which += 1;
            wanted[which - 1].then(|| made(gradient, shape(inputs[which - 1])))
        })
    }
}

/// Scores of a row to weights; gives the largest score, and 1 / the sum of the exponentials above it.
#[inline(always)]
fn softmax(row: &mut [f32]) -> [f32; 2] {
    let largest = max(row);
    for score in &mut *row {
        *score = weight_of(*score - largest);
    }
    let inverse = 1.0 / sum(row, row, |x, _| x);
    for weight in row {
        *weight *= inverse;
    }
    [largest, inverse]
}

#[inline(always)]
fn weight_of(score: f32) -> f32 {
    let weight = exp(score);
    if score < NOTHING { 0.0 } else { weight }
}
