//! Fast paths of layers that burn's operations take many passes for.
//!
//! A layer asks here first, for any backend. It gets a result where there is a kernel for that backend and these inputs, and
//! `None` elsewhere; then it goes on with burn's own operations, which remain the reference of the tests. So models keep
//! `B: Backend` and know no backend by name.
//!
//! | kernel | flex, f32 | others |
//! |---|---|---|
//! | [`layer_norm`] | forward, backward | – |
//! | [`activation`] | forward, backward | – |
//! | [`attention`] | forward, backward | – |
//! | [`linear`] | forward, backward | – |
//! | [`adamw`] | one pass over weights and moments | – |
//!
//! Results do not depend on the number of threads: sums are taken in an order that the shapes alone decide.

#[cfg(feature = "flex")]
mod flex;

use burn::prelude::*;

/// Nonlinearities that have a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · Φ(x)` with the error function.
    Gelu,
    /// GELU's tanh form.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
}

/// Layer norm over the last axis.
///
/// # Shapes
///
/// - x, output: `[..., width]`
/// - weight, bias: `[width]`
pub fn layer_norm<B: Backend, const D: usize>(
    x: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    bias: &Tensor<B, 1>,
    eps: f64,
) -> Option<Tensor<B, D>> {
    let inputs = [raw(x), raw(weight), raw(bias)];
    #[cfg(feature = "flex")]
    return flex::run::<B, _, 3>(flex::LayerNorm { eps: eps as f32 }, inputs).map(tensor);
    #[cfg(not(feature = "flex"))]
    return none(inputs, eps);
}

/// An activation, element by element.
pub fn activation<B: Backend, const D: usize>(
    kind: Activation,
    x: &Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    #[cfg(feature = "flex")]
    return flex::run::<B, _, 1>(flex::Activate(kind), [raw(x)]).map(tensor);
    #[cfg(not(feature = "flex"))]
    return none([raw(x)], kind);
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
    #[cfg(feature = "flex")]
    {
        let mask = match mask {
            Some(mask) => Some(flex::constant::<B>(raw(mask))?),
            None => None,
        };
        flex::run::<B, _, 1>(flex::Attention { heads, mask }, [raw(qkv)]).map(tensor)
    }
    #[cfg(not(feature = "flex"))]
    return none([raw(qkv)], (heads, mask));
}

/// `x weightᵀ + bias`.
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
    let inputs = [raw(x), raw(weight), raw(bias)];
    #[cfg(feature = "flex")]
    return flex::run::<B, _, 3>(flex::Linear, inputs).map(tensor);
    #[cfg(not(feature = "flex"))]
    return none(inputs, ());
}

/// Numbers of one AdamW update.
#[derive(Clone, Copy, Debug)]
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
    #[cfg(feature = "flex")]
    return flex::adamw::<B>(numbers, tensors.map(raw)).map(|made| made.map(tensor));
    #[cfg(not(feature = "flex"))]
    return none(tensors, numbers);
}

type Raw<B> = <B as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive;

fn raw<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Raw<B> {
    tensor.clone().into_primitive().tensor()
}

#[cfg(feature = "flex")]
fn tensor<B: Backend, const D: usize>(raw: Raw<B>) -> Tensor<B, D> {
    Tensor::from_primitive(burn::tensor::TensorPrimitive::Float(raw))
}

#[cfg(not(feature = "flex"))]
fn none<I, O, T>(_: I, _: O) -> Option<T> {
    None
}
