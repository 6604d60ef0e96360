//! Kernels of flex: plain loops over slices, compiled for the vectors that the CPU has, over rows on all cores.

mod activate;
mod adamw;
mod attention;
mod layer_norm;
mod linear;
mod math;
mod matmul;
mod parallel;
mod rms_norm;
mod rotary;
mod swiglu;

pub(crate) use activate::Activate;
pub(crate) use adamw::adamw;
pub(crate) use attention::{Grouped, Packed};
pub(crate) use layer_norm::LayerNorm;
pub(crate) use linear::Linear;
pub(crate) use rms_norm::RmsNorm;
pub(crate) use rotary::Rotary;
pub(crate) use swiglu::SwiGlu;

use crate::Raw;
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::prelude::*;
use burn::tensor::DType;
use burn_flex::{Flex, FlexTensor};
use std::any::Any;
use std::fmt::Debug;

/// A function of `N` tensors, and its gradient. Tensors are f32 and contiguous.
pub(crate) trait Kernel<const N: usize>: Debug + Send + 'static {
    /// What the gradient needs.
    type State: Clone + Debug + Send + 'static;

    /// Whether these inputs can be worked on.
    fn takes(&self, inputs: &[FlexTensor; N]) -> bool;

    fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::State);

    /// Gradients of those inputs that are wanted, from the output's.
    fn backward(
        self,
        state: Self::State,
        output: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

type Tracked = <Autodiff<Flex> as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive;

/// The kernel's output, where the inputs belong to flex and can be worked on.
pub(crate) fn run<B: Backend, K: Kernel<N>, const N: usize>(
    kernel: K,
    inputs: [Raw<B>; N],
) -> Option<Raw<B>> {
    let inputs: Box<dyn Any> = Box::new(inputs);
    let inputs = match inputs.downcast::<[FlexTensor; N]>() {
        Ok(inputs) => {
            let inputs = ready(&kernel, *inputs)?;
            return same(kernel.forward(inputs).0);
        }
        Err(inputs) => inputs,
    };
    let tracked = *inputs.downcast::<[Tracked; N]>().ok()?;
    let nodes = tracked.each_ref().map(|input| input.node.clone());
    let inputs = ready(&kernel, tracked.map(|input| input.primitive))?;
    let (output, state) = kernel.forward(inputs);
    let prepared = Step(kernel).prepare::<NoCheckpointing>(nodes);
    same(match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    })
}

/// A tensor that takes no gradient: `None` if it takes one, or is not flex's.
pub(crate) fn constant<B: Backend>(tensor: Raw<B>) -> Option<FlexTensor> {
    let tensor: Box<dyn Any> = Box::new(tensor);
    let tensor = match tensor.downcast::<FlexTensor>() {
        Ok(tensor) => *tensor,
        Err(tensor) => {
            let tracked = *tensor.downcast::<Tracked>().ok()?;
            if tracked.is_tracked() {
                return None;
            }
            tracked.primitive
        }
    };
    (tensor.dtype() == DType::F32).then(|| tensor.to_contiguous())
}

fn ready<K: Kernel<N>, const N: usize>(
    kernel: &K,
    inputs: [FlexTensor; N],
) -> Option<[FlexTensor; N]> {
    let f32s = inputs.iter().all(|input| input.dtype() == DType::F32);
    let takes = f32s && kernel.takes(&inputs);
    takes.then(|| inputs.map(|input| input.to_contiguous()))
}

/// The same value under the type that it has.
fn same<A: 'static, T: 'static>(value: A) -> Option<T> {
    let value: Box<dyn Any> = Box::new(value);
    value.downcast().ok().map(|value| *value)
}

#[derive(Debug)]
struct Step<K>(K);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for Step<K> {
    type State = K::State;

    fn backward(self, ops: Ops<K::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output = grads.consume::<Flex>(&ops.node).to_contiguous();
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = self.0.backward(ops.state, output, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous f32")
}

fn shape(tensor: &FlexTensor) -> &[usize] {
    tensor.layout().shape()
}

fn made(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

#[cfg(test)]
mod tests;
