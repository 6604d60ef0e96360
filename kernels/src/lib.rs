//! Fast paths of layers that burn's operations take many passes for.
//!
//! A layer asks here first, for any backend. It gets a result where there is a kernel for that backend and these inputs, and
//! `None` elsewhere; then it goes on with burn's own operations, which remain the reference of the tests. So models keep
//! `B: Backend` and know no backend by name.
//!
//! The kernels of flex are here. Those of another backend are a crate of their own, which implements [`Kernels`] and is
//! [registered](register) where that backend is chosen: so the crates of the models are built once for all backends.
//!
//! | kernel | flex, f32 | LibTorch, f32 and bf16 (`tch/`) | CUDA and WebGPU, f32 and bf16 (`cube/`) |
//! |---|---|---|---|
//! | [`layer_norm`], [`rms_norm`] | forward, backward | forward, backward | forward, backward |
//! | [`activation`], [`swiglu`], [`rotary`] | forward, backward | forward, backward | forward, backward |
//! | [`attention`], [`grouped_attention`] | forward, backward | forward, backward | forward, backward |
//! | [`linear`] | forward, backward | forward, backward | forward, backward |
//! | [`linear_activation`], [`linear_add`] | – | – | forward, backward |
//! | [`add_row`] | forward, backward | – | – |
//! | [`embedding`] | – | – | forward, backward |
//! | [`look_up`] | – | bytes by memory that a GPU reads itself | one upload of bytes and one launch |
//! | [`ids`] | – | the same | – |
//! | [`product`] | forward; weights in f32 or bf16 | – | – |
//! | [`adamw`] | one pass over weights and moments | LibTorch's fused one, for all parameters | one launch for many parameters ([`adamw_all`]) |
//! | [`norm`], [`scale`] | – | LibTorch's calls for lists; the norm on CUDA | one launch for many parameters |
//!
//! Results do not depend on the number of threads: sums are taken in an order that the shapes alone decide.

#[cfg(feature = "flex")]
mod flex;
mod function;
mod registry;

pub use function::{Function, constant, here, run, same, there, untracked};
pub use registry::{Kernels, register};

use burn::prelude::*;
use burn::tensor::{Bytes, TensorPrimitive};
use registry::of;

/// Nonlinearities that have a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x · Φ(x)` with the error function.
    Gelu,
    /// GELU's tanh form.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
}

/// Layer norm over the last axis, in the type of `x`.
///
/// # Shapes
///
/// - x, output: `[..., width]`
/// - weight, bias: `[width]`; they may be f32 where `x` is not
pub fn layer_norm<B: Backend, const D: usize>(
    x: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    bias: &Tensor<B, 1>,
    eps: f64,
) -> Option<Tensor<B, D>> {
    let made = of::<B>()?.layer_norm([raw(x), raw(weight), raw(bias)], eps);
    made.map(tensor)
}

/// An activation, element by element.
pub fn activation<B: Backend, const D: usize>(
    kind: Activation,
    x: &Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    of::<B>()?.activation(kind, raw(x)).map(tensor)
}

/// Self-attention of all heads: `softmax(q kᵀ / sqrt(head_dim) + mask) v`, from queries, keys and values side by side.
///
/// # Shapes
///
/// - qkv: `[batch, seq, 3 · width]`
/// - mask: `[1 or batch, 1, seq, seq]`, added to the scores; finite and without gradient
/// - output: `[batch, seq, width]`
pub fn attention<B: Backend>(
    qkv: &Tensor<B, 3>,
    heads: usize,
    mask: Option<&Tensor<B, 4>>,
) -> Option<Tensor<B, 3>> {
    let made = of::<B>()?.attention(raw(qkv), heads, mask.map(raw));
    made.map(tensor)
}

/// Attention where queries, keys and values are apart, and several heads of queries may share one of keys and values:
/// `softmax(q kᵀ / sqrt(head_dim) + mask) v`.
///
/// # Shapes
///
/// - q: `[batch, seq, heads · head_dim]`
/// - k, v: `[batch, keys, shared · head_dim]`; head `i` of the queries sees head `i · shared / heads` of them
/// - mask: `[1 or batch, 1, rows, keys]`, added to the scores; finite and without gradient. `rows` is 1, `seq`, or
///   `heads / shared · seq`, those of the heads that share one after the other
/// - output: `[batch, seq, heads · head_dim]`
pub fn grouped_attention<B: Backend>(
    [q, k, v]: [&Tensor<B, 3>; 3],
    heads: usize,
    shared: usize,
    mask: Option<&Tensor<B, 4>>,
) -> Option<Tensor<B, 3>> {
    let made = of::<B>()?.grouped_attention([q, k, v].map(raw), heads, shared, mask.map(raw));
    made.map(tensor)
}

/// RMS norm over the last axis: `x / sqrt(mean(x²) + eps) · weight`.
///
/// # Shapes
///
/// - x, output: `[..., width]`
/// - weight: `[width]`
pub fn rms_norm<B: Backend, const D: usize>(
    x: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    eps: f64,
) -> Option<Tensor<B, D>> {
    of::<B>()?.rms_norm([raw(x), raw(weight)], eps).map(tensor)
}

/// Rotary positions in the half-rotation form: entry `i` of a head turns with entry `i + head_dim / 2`.
///
/// # Shapes
///
/// - x, output: `[batch, seq, heads · head_dim]`
/// - cos, sin: `[1 or batch, seq, 1, head_dim]`, without gradient
pub fn rotary<B: Backend>(
    x: &Tensor<B, 3>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
) -> Option<Tensor<B, 3>> {
    of::<B>()?.rotary(raw(x), [cos, sin].map(raw)).map(tensor)
}

/// The gate of a SwiGLU layer, `gate · sigmoid(gate) · up`.
///
/// # Shapes
///
/// - gate, up, output: the same
pub fn swiglu<B: Backend, const D: usize>(
    gate: &Tensor<B, D>,
    up: &Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    of::<B>()?.swiglu([raw(gate), raw(up)]).map(tensor)
}

/// `x weightᵀ + bias`, in the type of `x`. Weight and bias may be f32 where `x` is not; then so are their gradients.
///
/// # Shapes
///
/// - x: `[rows, inputs]`
/// - weight: `[outputs, inputs]`
/// - bias: `[outputs]`
/// - output: `[rows, outputs]`
pub fn linear<B: Backend>(
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: &Tensor<B, 1>,
) -> Option<Tensor<B, 2>> {
    let made = of::<B>()?.linear([raw(x), raw(weight), raw(bias)]);
    made.map(tensor)
}

/// An activation of what [`linear`] gives, without a pass for the bias.
///
/// # Shapes
///
/// - as [`linear`]
pub fn linear_activation<B: Backend>(
    kind: Activation,
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: &Tensor<B, 1>,
) -> Option<Tensor<B, 2>> {
    let made = of::<B>()?.linear_activation(kind, [raw(x), raw(weight), raw(bias)]);
    made.map(tensor)
}

/// What [`linear`] gives, plus another tensor, in the pass of the bias: a residual branch and what it is added to.
///
/// # Shapes
///
/// - as [`linear`]
/// - beside: `[rows, outputs]`, of the type of `x`
pub fn linear_add<B: Backend>(
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: &Tensor<B, 1>,
    beside: &Tensor<B, 2>,
) -> Option<Tensor<B, 2>> {
    let made = of::<B>()?.linear_add([raw(x), raw(weight), raw(bias), raw(beside)]);
    made.map(tensor)
}

/// `x weightᵀ` where no gradient is asked for, in the dtype of `x`. The weight may be of another dtype: it is not cast as a whole.
///
/// # Shapes
///
/// - x: `[rows, inputs]`
/// - weight: `[outputs, inputs]`, in whichever of the two orders it lies in memory
/// - output: `[rows, outputs]`
pub fn product<B: Backend>(x: &Tensor<B, 2>, weight: &Tensor<B, 2>) -> Option<Tensor<B, 2>> {
    of::<B>()?.product([raw(x), raw(weight)]).map(tensor)
}

/// One row added to every row of `x`, such as positions to each image's patches.
///
/// # Shapes
///
/// - x, output: `[rows, ...]`
/// - row: `[1, ...]`
pub fn add_row<B: Backend, const D: usize>(
    x: &Tensor<B, D>,
    row: &Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    of::<B>()?.add_row([raw(x), raw(row)]).map(tensor)
}

/// Rows of a table by their index, in the type of the table.
///
/// # Shapes
///
/// - table: `[rows, width]`
/// - ids: `[n]`
/// - output: `[n, width]`
pub fn embedding<B: Backend>(
    table: &Tensor<B, 2>,
    ids: &Tensor<B, 1, Int>,
) -> Option<Tensor<B, 2>> {
    let ids = ids.clone().into_primitive();
    of::<B>()?.embedding(raw(table), ids).map(tensor)
}

/// What a table has for each byte, one table for each of three channels: pixels as a model sees them.
///
/// # Shapes
///
/// - pixels: `[images, plane, 3]` row by row
/// - output: `[images, 3, plane]`, f32
///
/// # Errors
///
/// The bytes as they came, where there is no kernel for them. Where there is one, they are uploaded as they lie: nobody copies them
/// on the host, so they should be [shared](Bytes::from_shared) rather than cloned.
pub fn look_up<B: Backend>(
    pixels: Bytes,
    images: usize,
    tables: &[[f32; 256]; 3],
    device: &Device<B>,
) -> Result<Tensor<B, 3>, Bytes> {
    match of::<B>() {
        Some(kernels) => kernels.look_up(pixels, images, tables, device).map(tensor),
        None => Err(pixels),
    }
}

/// Ids of tokens on the device, where that can be had without waiting for what the device does.
///
/// # Shapes
///
/// - ids: row by row
/// - output: of the given shape
pub fn ids<B: Backend>(
    ids: &[i32],
    shape: [usize; 2],
    device: &Device<B>,
) -> Option<Tensor<B, 2, Int>> {
    of::<B>()?
        .ids(ids, shape, device)
        .map(Tensor::from_primitive)
}

/// Whether tensors of the backend lie in the program's own memory, where a loop on the host costs no transfer. `false` where that
/// is not known.
pub fn in_host_memory<B: Backend>() -> bool {
    of::<B>().is_some_and(|kernels| kernels.in_host_memory())
}

/// Numbers of one AdamW update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Learning rate over the bias correction of the first moment.
    pub step_size: f64,
    /// Root of the bias correction of the second moment.
    pub root: f64,
    /// Factor of the weights before the update, `1 − lr · decay`.
    pub keep: f64,
}

/// Weights and both moments after one update, from weights, gradient and both moments.
///
/// # Shapes
///
/// - each: `[n]`
pub fn adamw<B: Backend>(numbers: AdamW, tensors: [&Tensor<B, 1>; 4]) -> Option<[Tensor<B, 1>; 3]> {
    let made = of::<B>()?.adamw(numbers, tensors.map(raw));
    made.map(|made| made.map(tensor))
}

/// Several updates: the numbers of each, with its weights, gradient and both moments.
pub type Updates<T> = Vec<(AdamW, [T; 4])>;

/// What [`adamw`] makes of each update, in as few passes as the backend can.
///
/// # Shapes
///
/// - the tensors of an update: `[n]`, each update with an `n` of its own
///
/// # Errors
///
/// The updates as they came, where there is no kernel for them. Nothing needs to be cloned in order to ask, and what nobody
/// else holds may be overwritten in place.
pub fn adamw_all<B: Backend>(
    updates: Updates<Tensor<B, 1>>,
) -> Result<Vec<[Tensor<B, 1>; 3]>, Updates<Tensor<B, 1>>> {
    let Some(kernels) = of::<B>() else {
        return Err(updates);
    };
    let updates = updates.into_iter();
    let raws = updates.map(|(numbers, tensors)| (numbers, tensors.map(into_raw)));
    match kernels.adamw_all(raws.collect()) {
        Ok(made) => Ok(made.into_iter().map(|made| made.map(tensor)).collect()),
        Err(raws) => {
            let updates = raws.into_iter();
            let updates = updates.map(|(numbers, raws)| (numbers, raws.map(tensor)));
            Err(updates.collect())
        }
    }
}

/// The Euclidean norm of all tensors together.
///
/// # Shapes
///
/// - tensors: each `[n]` with an `n` of its own
/// - output: `[1]`
pub fn norm<'a, B: Backend>(
    tensors: impl IntoIterator<Item = &'a Tensor<B, 1>>,
) -> Option<Tensor<B, 1>> {
    let kernels = of::<B>()?;
    kernels
        .norm(tensors.into_iter().map(raw).collect())
        .map(tensor)
}

/// All tensors times one factor.
///
/// # Shapes
///
/// - tensors: each `[n]` with an `n` of its own
/// - factor: `[1]`
///
/// # Errors
///
/// The tensors as they came, where there is no kernel for them. What nobody else holds may be overwritten in place.
pub fn scale<B: Backend>(
    tensors: Vec<Tensor<B, 1>>,
    factor: &Tensor<B, 1>,
) -> Result<Vec<Tensor<B, 1>>, Vec<Tensor<B, 1>>> {
    let Some(kernels) = of::<B>() else {
        return Err(tensors);
    };
    let raws = tensors.into_iter().map(into_raw).collect();
    let many = |raws: Vec<Raw<B>>| raws.into_iter().map(tensor).collect();
    kernels.scale(raws, raw(factor)).map(many).map_err(many)
}

/// A float tensor of a backend, of any rank.
pub type Raw<B> = <B as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive;

/// A tensor of integers of a backend, of any rank.
pub type Ids<B> = <B as burn::tensor::backend::BackendTypes>::IntTensorPrimitive;

fn raw<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Raw<B> {
    tensor.clone().into_primitive().tensor()
}

fn into_raw<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Raw<B> {
    tensor.into_primitive().tensor()
}

fn tensor<B: Backend, const D: usize>(raw: Raw<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(raw))
}
