//! A function with a gradient of its own, on a backend and under its `Autodiff`.

use crate::Raw;
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use std::any::{Any, TypeId};
use std::fmt::Debug;

/// A function of `N` tensors of backend `F`, and its gradient.
pub trait Function<F: Backend, const N: usize>: Debug + Send + 'static {
    /// What the gradient needs.
    type State: Clone + Debug + Send + 'static;

    /// The inputs as [`forward`](Self::forward) wants them; `None` if they cannot be worked on.
    fn prepare(&self, inputs: [Raw<F>; N]) -> Option<[Raw<F>; N]>;

    /// The output, and what is kept for the gradient.
    fn forward(&self, inputs: [Raw<F>; N]) -> (Raw<F>, Self::State);

    /// Gradients of those inputs that are wanted, from the output's.
    fn backward(self, state: Self::State, output: Raw<F>, wanted: [bool; N])
    -> [Option<Raw<F>>; N];
}

/// The function's output, where `B` is `F` or `Autodiff<F>` and the inputs can be worked on.
pub fn run<F: Backend, B: Backend, K: Function<F, N>, const N: usize>(
    function: K,
    inputs: [Raw<B>; N],
) -> Option<Raw<B>> {
    let inputs: Box<dyn Any> = Box::new(inputs);
    let inputs = match inputs.downcast::<[Raw<F>; N]>() {
        Ok(inputs) => {
            let inputs = function.prepare(*inputs)?;
            return same(function.forward(inputs).0);
        }
        Err(inputs) => inputs,
    };
    let tracked = *inputs.downcast::<[Raw<Autodiff<F>>; N]>().ok()?;
    let nodes = tracked.each_ref().map(|input| input.node.clone());
    let inputs = function.prepare(tracked.map(|input| input.primitive))?;
    let (output, state) = function.forward(inputs);
    let prepared = Step(function).prepare::<NoCheckpointing>(nodes);
    same(match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    })
}

/// A tensor of `F` that takes no gradient: `None` if it takes one, or is not of `F` or `Autodiff<F>`.
pub fn constant<F: Backend, B: Backend>(tensor: Raw<B>) -> Option<Raw<F>> {
    let tensor: Box<dyn Any> = Box::new(tensor);
    match tensor.downcast::<Raw<F>>() {
        Ok(tensor) => Some(*tensor),
        Err(tensor) => {
            let tracked = *tensor.downcast::<Raw<Autodiff<F>>>().ok()?;
            (!tracked.is_tracked()).then_some(tracked.primitive)
        }
    }
}

/// A tensor of `F` as one of `B` that takes no gradient: `None` if `B` is neither `F` nor `Autodiff<F>`.
pub fn untracked<F: Backend, B: Backend>(tensor: Raw<F>) -> Option<Raw<B>> {
    if TypeId::of::<F>() == TypeId::of::<B>() {
        return same(tensor);
    }
    same(<Autodiff<F> as AutodiffBackend>::from_inner(tensor))
}

/// The same value under the type that it has.
pub fn same<A: 'static, T: 'static>(value: A) -> Option<T> {
    let value: Box<dyn Any> = Box::new(value);
    value.downcast().ok().map(|value| *value)
}

#[derive(Debug)]
struct Step<K>(K);

impl<F: Backend, K: Function<F, N>, const N: usize> Backward<F, N> for Step<K> {
    type State = K::State;

    fn backward(self, ops: Ops<K::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output = grads.consume::<F>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = self.0.backward(ops.state, output, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<F>(parent.id, gradient);
            }
        }
    }
}
