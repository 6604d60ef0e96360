//! A function with a gradient of its own, on a backend and under its `Autodiff`.

use crate::Raw;
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::prelude::*;
use std::any::{Any, TypeId};
use std::fmt::Debug;

/// A function of `N` tensors of backend `F`, and its gradient.
pub trait Function<F: Backend, const N: usize>: Debug + Send + 'static {
    /// What the gradient needs.
    type State: Clone + Debug + Send + 'static;

    /// Whether [`backward`](Self::backward) can add the gradient of the first input to one that is there, which [`onto`](Self::onto)
    /// gets: it saves the pass of an addition.
    const ADDS: bool = false;

    /// The inputs as [`forward`](Self::forward) wants them; `None` if they cannot be worked on.
    fn prepare(&self, inputs: [Raw<F>; N]) -> Option<[Raw<F>; N]>;

    /// The output, and what is kept for the gradient.
    fn forward(&self, inputs: [Raw<F>; N]) -> (Raw<F>, Self::State);

    /// Keeps what other uses of the first input have given to its gradient by now, to be part of what
    /// [`backward`](Self::backward) gives for it; or gives it back.
    fn onto(_state: &mut Self::State, gradient: Raw<F>) -> Option<Raw<F>> {
        Some(gradient)
    }

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
    same(<Raw<Autodiff<F>>>::new(tensor))
}

/// The same value under the type that it has.
pub fn same<A: 'static, T: 'static>(value: A) -> Option<T> {
    let value: Box<dyn Any> = Box::new(value);
    value.downcast().ok().map(|value| *value)
}

/// Values of one backend under the types that they have in another, which they are of; given back if they are not.
///
/// # Errors
///
/// The value as it came, if it is of another type.
pub fn here<A: 'static, T: 'static>(value: A) -> Result<T, A> {
    let value: Box<dyn Any> = Box::new(value);
    match value.downcast::<T>() {
        Ok(value) => Ok(*value),
        Err(value) => Err(*value.downcast::<A>().expect("it was one of these")),
    }
}

/// And back.
///
/// # Panics
///
/// Panics for a value of another type.
pub fn there<T: 'static, A: 'static>(value: T) -> A {
    same(value).expect("what came from here goes back")
}

#[derive(Debug)]
struct Step<K>(K);

impl<F: Backend, K: Function<F, N>, const N: usize> Backward<F, N> for Step<K> {
    type State = K::State;

    fn backward(self, mut ops: Ops<K::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output = grads.consume::<F>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        if K::ADDS
            && let Some(first) = &ops.parents[0]
        {
            // Gradients are asked for by tensor, and found by its node alone.
            let mut input = <Raw<Autodiff<F>>>::new(output.clone());
            input.node = first.clone();
            let there = grads.remove::<F>(&input);
            if let Some(left) = there.and_then(|there| K::onto(&mut ops.state, there)) {
                grads.register::<F>(first.id, left);
            }
        }
        let found = self.0.backward(ops.state, output, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<F>(parent.id, gradient);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorPrimitive;
    use burn::tensor::ops::FloatTensorOps;
    use burn_ndarray::NdArray;

    type Cpu = NdArray;

    /// Twice its input, with a gradient that is added to what is there.
    #[derive(Debug)]
    struct Double;

    impl Function<Cpu, 1> for Double {
        type State = Option<Raw<Cpu>>;

        const ADDS: bool = true;

        fn prepare(&self, inputs: [Raw<Cpu>; 1]) -> Option<[Raw<Cpu>; 1]> {
            Some(inputs)
        }

        fn forward(&self, [x]: [Raw<Cpu>; 1]) -> (Raw<Cpu>, Self::State) {
            (Cpu::float_add(x.clone(), x), None)
        }

        fn onto(state: &mut Self::State, gradient: Raw<Cpu>) -> Option<Raw<Cpu>> {
            *state = Some(gradient);
            None
        }

        fn backward(self, state: Self::State, dy: Raw<Cpu>, _: [bool; 1]) -> [Option<Raw<Cpu>>; 1] {
            let own = Cpu::float_add(dy.clone(), dy);
            [Some(match state {
                Some(there) => Cpu::float_add(there, own),
                None => own,
            })]
        }
    }

    fn double(x: Tensor<Autodiff<Cpu>, 1>) -> Tensor<Autodiff<Cpu>, 1> {
        let x = x.into_primitive().tensor();
        let y = run::<Cpu, Autodiff<Cpu>, _, 1>(Double, [x]).unwrap();
        Tensor::from_primitive(TensorPrimitive::Float(y))
    }

    #[test]
    fn a_gradient_is_added_to_those_of_other_uses_once() {
        let device = Default::default();
        let x = Tensor::<Autodiff<Cpu>, 1>::from_floats([1.0, -2.0], &device).require_grad();
        let slope = |y: Tensor<Autodiff<Cpu>, 1>| {
            let grads = y.sum().backward();
            x.grad(&grads)
                .unwrap()
                .into_data()
                .into_vec::<f32>()
                .unwrap()
        };
        assert_eq!(slope(double(x.clone())), [2.0; 2], "alone");
        assert_eq!(
            slope(double(x.clone()) * 5.0 + x.clone() * 7.0),
            [17.0; 2],
            "of a leaf"
        );
        let inner = x.clone() * 3.0;
        // Uses before and after it on the way back.
        let y = double(inner.clone()) * 5.0 + inner.clone() * 7.0 + inner;
        assert_eq!(slope(y), [54.0; 2], "of another tensor");
        let twice = double(double(x.clone()) + x.clone()) + x.clone();
        assert_eq!(slope(twice), [7.0; 2], "of each other");
    }
}
