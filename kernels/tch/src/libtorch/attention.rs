//! Attention of all heads by LibTorch's call, which chooses the kernel: one without a matrix of all scores, where it has one.
//!
//! Without a mask the way back is LibTorch's own. With one the scores are computed once more: LibTorch keeps of a row the
//! logarithm of its sum of exponentials, and that loses the sum where all keys are hidden. In bf16 on a CPU both ways are products,
//! which CPUs with instructions for bf16 do several times as fast as LibTorch's kernel.

use super::recorded::{Recorded, record};
use super::{Kernel, alike, shape};
use burn_tch::TchTensor;
use tch::{Device, Kind, Tensor};

/// Queries, keys and values side by side in one tensor, as many heads of each.
#[derive(Debug)]
pub(super) struct Packed {
    pub heads: usize,
    /// `[1 or batch, 1, seq, seq]`.
    pub mask: Option<TchTensor>,
}

/// Queries, keys and values in a tensor each; several heads of queries share one of keys and values.
#[derive(Debug)]
pub(super) struct Grouped {
    pub heads: usize,
    pub shared: usize,
    /// `[1 or batch, 1, 1 or seq or heads / shared · seq, keys]`.
    pub mask: Option<TchTensor>,
}

#[derive(Clone, Debug)]
pub(super) enum State<const N: usize> {
    /// LibTorch knows the way back.
    Recorded(Recorded<N>),
    /// The inputs, for products.
    Kept([TchTensor; N]),
}

/// Heads of keys and values, and how many heads of queries share one.
#[derive(Clone, Copy)]
struct Heads {
    shared: i64,
    group: i64,
}

impl Heads {
    /// `[batch, seq, shared · group · dim]` → `[batch, shared, group · seq, dim]`: the heads that share as rows of one.
    fn split(self, x: &Tensor, group: i64) -> Tensor {
        let size = x.size();
        let (batch, seq, dim) = (size[0], size[1], size[2] / (self.shared * group));
        let x = x.reshape([batch, seq, self.shared, group, dim]);
        let x = x.permute([0, 2, 3, 1, 4]);
        x.reshape([batch, self.shared, group * seq, dim])
    }

    /// Back again.
    fn join(self, x: &Tensor, group: i64) -> Tensor {
        let size = x.size();
        let (batch, seq, dim) = (size[0], size[2] / group, size[3]);
        let x = x.reshape([batch, self.shared, group, seq, dim]);
        let x = x.permute([0, 3, 1, 2, 4]);
        x.reshape([batch, seq, self.shared * group * dim])
    }

    fn parts(self, [q, k, v]: [&Tensor; 3]) -> [Tensor; 3] {
        [
            self.split(q, self.group),
            self.split(k, 1),
            self.split(v, 1),
        ]
    }

    fn forward(self, qkv: [&Tensor; 3], mask: Option<&Tensor>) -> Tensor {
        let [q, k, v] = self.parts(qkv);
        if by_products(&q) {
            let weights = weights(&q, &k, mask).to_kind(q.kind());
            return self.join(&weights.matmul(&v), self.group);
        }
        let mask = mask.map(|mask| match mask.device().is_cuda() {
            true => mask.to_kind(q.kind()), // as kernels of CUDA want it
            false => mask.shallow_clone(),
        });
        let scale = Some(scale(&q));
        let out = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, scale, false);
        self.join(&out, self.group)
    }

    /// Gradients of queries, keys and values by products.
    fn backward(self, qkv: [&Tensor; 3], mask: Option<&Tensor>, dy: &Tensor) -> [Tensor; 3] {
        let (kind, [q, k, v]) = (dy.kind(), self.parts(qkv));
        let dy = self.split(dy, self.group);
        let weights = weights(&q, &k, mask);
        let up = dy.matmul(&turned(&v)).to_kind(Kind::Float);
        let mut up = Tensor::internal_softmax_backward_data(&up, &weights, -1, Kind::Float);
        let up = up.g_mul_scalar_(scale(&q)).to_kind(kind);
        [
            self.join(&up.matmul(&k), self.group),
            self.join(&turned(&up).matmul(&q), 1),
            self.join(&turned(&weights.to_kind(kind)).matmul(&dy), 1),
        ]
    }

    /// The mask with a row for each row of the scores, or one for all.
    fn mask(self, mask: &TchTensor, seq: i64) -> Tensor {
        match shape(mask)[2] == seq && seq > 1 && self.group > 1 {
            true => mask.tensor.repeat([1, 1, self.group, 1]),
            false => mask.tensor.shallow_clone(),
        }
    }
}

fn scale(q: &Tensor) -> f64 {
    (q.size()[3] as f64).powf(-0.5)
}

fn turned(x: &Tensor) -> Tensor {
    x.transpose(-2, -1)
}

fn by_products(q: &Tensor) -> bool {
    q.device() == Device::Cpu && q.kind() == Kind::BFloat16
}

/// The softmax of the scores, in f32.
fn weights(q: &Tensor, k: &Tensor, mask: Option<&Tensor>) -> Tensor {
    let mut scores = match by_products(q) {
        true => q.matmul(&turned(k)).to_kind(Kind::Float),
        // As LibTorch's kernels keep them.
        false => q
            .to_kind(Kind::Float)
            .matmul(&turned(&k.to_kind(Kind::Float))),
    };
    let _ = scores.g_mul_scalar_(scale(q));
    if let Some(mask) = mask {
        let _ = scores.g_add_(mask);
    }
    scores.softmax(-1, None)
}

fn mask_fits(mask: &TchTensor, x: &TchTensor, batch: i64, rows: &[i64], keys: i64) -> bool {
    let &[images, heads, queries, seen] = &shape(mask)[..] else {
        return false;
    };
    mask.tensor.kind() == Kind::Float
        && mask.tensor.device() == x.tensor.device()
        && (images == 1 || images == batch)
        && heads == 1
        && rows.contains(&queries)
        && seen == keys
}

/// Output and state of either form, whose inputs `apart` makes queries, keys and values of.
fn forward<const N: usize>(
    heads: Heads,
    inputs: [TchTensor; N],
    mask: Option<Tensor>,
    apart: impl Fn([&Tensor; N]) -> [Tensor; 3],
) -> (TchTensor, State<N>) {
    let apply = |inputs: [&Tensor; N]| {
        let qkv = apart(inputs);
        heads.forward(qkv.each_ref(), mask.as_ref())
    };
    if mask.is_some() || by_products(&inputs[0].tensor) {
        let out = apply(inputs.each_ref().map(|input| &input.tensor));
        return (TchTensor::new(out), State::Kept(inputs));
    }
    let (out, recorded) = record(inputs, apply);
    (out, State::Recorded(recorded))
}

impl Packed {
    fn heads(&self) -> Heads {
        Heads {
            shared: self.heads as i64,
            group: 1,
        }
    }
}

/// Queries, keys and values of packed ones, by a call whose gradient is one copy.
fn unpacked([qkv]: [&Tensor; 1]) -> [Tensor; 3] {
    let parts = qkv.chunk(3, 2);
    parts.try_into().expect("three chunks")
}

impl Kernel<1> for Packed {
    type State = State<1>;

    fn takes(&self, [qkv]: &[TchTensor; 1]) -> bool {
        let &[batch, seq, width] = &shape(qkv)[..] else {
            return false;
        };
        let fits = |mask: &TchTensor| mask_fits(mask, qkv, batch, &[seq], seq);
        let heads = self.heads as i64;
        heads > 0
            && width % (3 * heads) == 0
            && batch * seq * width > 0
            && self.mask.as_ref().is_none_or(fits)
    }

    fn forward(&self, inputs: [TchTensor; 1]) -> (TchTensor, State<1>) {
        let mask = self.mask.as_ref().map(|mask| mask.tensor.shallow_clone());
        forward(self.heads(), inputs, mask, unpacked)
    }

    fn backward(self, state: State<1>, dy: &Tensor, _: [bool; 1]) -> [Option<Tensor>; 1] {
        match state {
            State::Recorded(recorded) => recorded.backward(dy).map(Some),
            State::Kept([qkv]) => {
                let (parts, mask) = (unpacked([&qkv.tensor]), self.mask.as_ref());
                let mask = mask.map(|mask| &mask.tensor);
                let gradients = self.heads().backward(parts.each_ref(), mask, dy);
                [Some(Tensor::cat(&gradients, 2))]
            }
        }
    }
}

impl Grouped {
    fn heads(&self) -> Heads {
        Heads {
            shared: self.shared as i64,
            group: (self.heads / self.shared) as i64,
        }
    }
}

impl Kernel<3> for Grouped {
    type State = State<3>;

    fn takes(&self, inputs: &[TchTensor; 3]) -> bool {
        let [q, k, v] = inputs.each_ref().map(shape);
        let (&[batch, seq, width], &[images, keys, narrow]) = (&q[..], &k[..]) else {
            return false;
        };
        let (heads, shared) = (self.heads as i64, self.shared as i64);
        if heads == 0 || shared == 0 || heads % shared != 0 || width % heads != 0 {
            return false;
        }
        let rows = [1, seq, heads / shared * seq];
        let fits = |mask: &TchTensor| mask_fits(mask, &inputs[0], batch, &rows, keys);
        alike(inputs)
            && k == v
            && batch == images
            && narrow == width / heads * shared
            && batch * seq * keys * width > 0
            && self.mask.as_ref().is_none_or(fits)
    }

    fn forward(&self, inputs: [TchTensor; 3]) -> (TchTensor, State<3>) {
        let (heads, seq) = (self.heads(), shape(&inputs[0])[1]);
        let mask = self.mask.as_ref().map(|mask| heads.mask(mask, seq));
        forward(heads, inputs, mask, |qkv| qkv.map(Tensor::shallow_clone))
    }

    fn backward(self, state: State<3>, dy: &Tensor, wanted: [bool; 3]) -> [Option<Tensor>; 3] {
        let [q, k, v] = match state {
            State::Recorded(recorded) => recorded.backward(dy),
            State::Kept(inputs) => {
                let (heads, seq) = (self.heads(), dy.size()[1]);
                let mask = self.mask.as_ref().map(|mask| heads.mask(mask, seq));
                let inputs = inputs.each_ref().map(|input| &input.tensor);
                heads.backward(inputs, mask.as_ref(), dy)
            }
        };
        [
            wanted[0].then_some(q),
            wanted[1].then_some(k),
            wanted[2].then_some(v),
        ]
    }
}
