//! Attention of all heads: burn's batched products, and between them softmax with
//! scale and mask in one go. Where they come packed in one tensor, so do their gradients, written at once.

use crate::Kernel;
use crate::heads::{join, split};
use crate::softmax::{softmax, softmax_backward};
use crate::tensor::{contiguous, product, shape, transposed};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;

/// Queries, keys and values side by side in one tensor, as many heads of each.
#[derive(Debug)]
pub(crate) struct Packed<R: CubeRuntime> {
    pub heads: usize,
    /// `[1 or batch, 1, seq, seq]`.
    pub mask: Option<CubeTensor<R>>,
}

/// Queries, keys and values in a tensor each; several heads of queries share one of keys and values.
#[derive(Debug)]
pub(crate) struct Grouped<R: CubeRuntime> {
    pub heads: usize,
    pub shared: usize,
    /// `[1 or batch, 1, 1 or seq or heads / shared · seq, keys]`.
    pub mask: Option<CubeTensor<R>>,
}

#[derive(Clone, Debug)]
pub(crate) struct State<R: CubeRuntime> {
    /// Queries, keys and values, `[batch, heads of keys, positions, head_dim]`: the heads of queries that share one of keys are
    /// positions of one.
    parts: [CubeTensor<R>; 3],
    /// What each query takes of each key, `[batch, heads of keys, queries, keys]`.
    weights: CubeTensor<R>,
}

fn scale<R: CubeRuntime>(queries: &CubeTensor<R>) -> f32 {
    (shape(queries)[3] as f64).powf(-0.5) as f32
}

/// What the queries see, `[batch, heads of keys, queries, head_dim]`.
fn see<R: CubeRuntime>(
    parts: [CubeTensor<R>; 3],
    mask: Option<CubeTensor<R>>,
) -> (CubeTensor<R>, State<R>) {
    let [q, k, v] = parts.clone();
    let (scale, dtype) = (scale(&q), q.dtype);
    // Scores are kept in f32: as bf16 they would be off by the rounding of their largest.
    let scores = product(q, transposed(k), DType::F32);
    let weights = softmax(scores, mask, scale, dtype);
    let out = contiguous(product(weights.clone(), v, dtype));
    (out, State { parts, weights })
}

/// Gradients of the parts from that of [`see`]'s output, contiguous.
fn see_backward<R: CubeRuntime>(state: State<R>, dy: CubeTensor<R>) -> [CubeTensor<R>; 3] {
    let State { parts, weights } = state;
    let ([q, k, v], dtype) = (parts, dy.dtype);
    let scale = scale(&q);
    let dv = product(transposed(weights.clone()), dy.clone(), dtype);
    let up = product(dy, transposed(v), DType::F32);
    let scores = softmax_backward(weights, up, scale);
    let dq = product(scores.clone(), k, dtype);
    let dk = product(transposed(scores), q, dtype);
    [dq, dk, dv].map(contiguous)
}

fn mask_fits<R: CubeRuntime>(
    mask: Option<&CubeTensor<R>>,
    batch: usize,
    rows: &[usize],
    keys: usize,
) -> bool {
    mask.is_none_or(|mask| {
        let &[images, heads, queries, seen] = shape(mask) else {
            return false;
        };
        (images == 1 || images == batch) && heads == 1 && rows.contains(&queries) && seen == keys
    })
}

/// Scores are indexed with 32 bits too, and their rows may be padded.
fn scores_fit(rows: usize, keys: usize) -> bool {
    rows * keys.next_multiple_of(64) < crate::MOST
}

impl<R: CubeRuntime> Kernel<R, 1> for Packed<R> {
    type State = State<R>;

    fn takes(&self, [qkv]: &[CubeTensor<R>; 1]) -> bool {
        let &[batch, seq, width] = shape(qkv) else {
            return false;
        };
        self.heads > 0
            && width.is_multiple_of(3 * self.heads)
            && scores_fit(batch * self.heads * seq, seq)
            && mask_fits(self.mask.as_ref(), batch, &[seq], seq)
    }

    fn forward(&self, [qkv]: [CubeTensor<R>; 1]) -> (CubeTensor<R>, State<R>) {
        let (out, state) = see(split(qkv, self.heads), self.mask.clone());
        (join([out]), state)
    }

    fn backward(
        self,
        state: State<R>,
        dy: CubeTensor<R>,
        _: [bool; 1],
    ) -> [Option<CubeTensor<R>>; 1] {
        let [dy] = split(dy, self.heads);
        [Some(join(see_backward(state, dy)))]
    }
}

impl<R: CubeRuntime> Grouped<R> {
    /// `[batch, heads, seq, head_dim]` as `[batch, shared, heads / shared · seq, head_dim]`, and back.
    fn regrouped(&self, queries: CubeTensor<R>, heads: usize) -> CubeTensor<R> {
        let [batch, from, positions, dim] = [0, 1, 2, 3].map(|axis| shape(&queries)[axis]);
        let to = [batch, heads, from * positions / heads, dim];
        reshape(queries, Shape::from(to.to_vec()))
    }
}

impl<R: CubeRuntime> Kernel<R, 3> for Grouped<R> {
    type State = State<R>;

    fn takes(&self, [q, k, v]: &[CubeTensor<R>; 3]) -> bool {
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
        shape(k) == shape(v)
            && [k.dtype, v.dtype] == [q.dtype; 2]
            && batch == images
            && shared_width == width / heads * shared
            && scores_fit(batch * heads * seq, keys)
            && mask_fits(self.mask.as_ref(), batch, &rows, keys)
    }

    fn forward(&self, [q, k, v]: [CubeTensor<R>; 3]) -> (CubeTensor<R>, State<R>) {
        let [q] = split(q, self.heads);
        let q = self.regrouped(q, self.shared);
        let ([k], [v]) = (split(k, self.shared), split(v, self.shared));
        let (out, state) = see([q, k, v], self.mask.clone());
        (join([self.regrouped(out, self.heads)]), state)
    }

    fn backward(
        self,
        state: State<R>,
        dy: CubeTensor<R>,
        wanted: [bool; 3],
    ) -> [Option<CubeTensor<R>>; 3] {
        let [dy] = split(dy, self.heads);
        let dy = self.regrouped(dy, self.shared);
        let [dq, dk, dv] = see_backward(state, dy);
        let dq = self.regrouped(dq, self.heads);
        let mut which = 0;
        [dq, dk, dv].map(|gradient| {
            which += 1;
            wanted[which - 1].then(|| join([gradient]))
        })
    }
}
