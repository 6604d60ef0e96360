//! Kernels of flex: plain loops over slices, compiled for the vectors that the CPU has, over rows on all cores.

mod activate;
mod adamw;
mod add_row;
mod attention;
mod inner_product;
mod layer_norm;
mod linear;
mod math;
mod matmul;
mod parallel;
mod product;
mod rms_norm;
mod rotary;
mod swiglu;

use crate::{Activation, AdamW, Function, Kernels, Raw, run};
use activate::Activate;
use add_row::AddRow;
use attention::{Grouped, Packed};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::DType;
use burn_flex::{Flex, FlexTensor};
use layer_norm::LayerNorm;
use linear::Linear;
use rms_norm::RmsNorm;
use rotary::Rotary;
use std::any::TypeId;
use std::fmt::Debug;
use swiglu::SwiGlu;

/// Kernels of flex in f32.
pub(crate) struct FlexKernels;

pub(crate) fn is_flex<B: Backend>() -> bool {
    let id = TypeId::of::<B>();
    id == TypeId::of::<Flex>() || id == TypeId::of::<Autodiff<Flex>>()
}

impl<B: Backend> Kernels<B> for FlexKernels {
    fn layer_norm(&self, inputs: [Raw<B>; 3], eps: f64) -> Option<Raw<B>> {
        flat::<B, _, 3>(LayerNorm { eps: eps as f32 }, inputs)
    }

    fn activation(&self, kind: Activation, x: Raw<B>) -> Option<Raw<B>> {
        flat::<B, _, 1>(Activate(kind), [x])
    }

    fn attention(&self, qkv: Raw<B>, heads: usize, mask: Option<Raw<B>>) -> Option<Raw<B>> {
        let mask = constants::<B>(mask)?;
        flat::<B, _, 1>(Packed { heads, mask }, [qkv])
    }

    fn grouped_attention(
        &self,
        qkv: [Raw<B>; 3],
        heads: usize,
        shared: usize,
        mask: Option<Raw<B>>,
    ) -> Option<Raw<B>> {
        let mask = constants::<B>(mask)?;
        let function = Grouped {
            heads,
            shared,
            mask,
        };
        flat::<B, _, 3>(function, qkv)
    }

    fn rms_norm(&self, inputs: [Raw<B>; 2], eps: f64) -> Option<Raw<B>> {
        flat::<B, _, 2>(RmsNorm { eps: eps as f32 }, inputs)
    }

    fn rotary(&self, x: Raw<B>, [cos, sin]: [Raw<B>; 2]) -> Option<Raw<B>> {
        let (cos, sin) = (constant::<B>(cos)?, constant::<B>(sin)?);
        flat::<B, _, 1>(Rotary { cos, sin }, [x])
    }

    fn swiglu(&self, inputs: [Raw<B>; 2]) -> Option<Raw<B>> {
        flat::<B, _, 2>(SwiGlu, inputs)
    }

    fn linear(&self, inputs: [Raw<B>; 3]) -> Option<Raw<B>> {
        flat::<B, _, 3>(Linear, inputs)
    }

    fn add_row(&self, inputs: [Raw<B>; 2]) -> Option<Raw<B>> {
        flat::<B, _, 2>(AddRow, inputs)
    }

    fn in_host_memory(&self) -> bool {
        true
    }

    fn product(&self, [x, weight]: [Raw<B>; 2]) -> Option<Raw<B>> {
        product::product::<B>(x, weight)
    }

    fn adamw(&self, numbers: AdamW, tensors: [Raw<B>; 4]) -> Option<[Raw<B>; 3]> {
        adamw::adamw::<B>(numbers, tensors)
    }
}

fn flat<B: Backend, K: Kernel<N>, const N: usize>(
    kernel: K,
    inputs: [Raw<B>; N],
) -> Option<Raw<B>> {
    run::<Flex, B, _, N>(Flat(kernel), inputs)
}

fn constant<B: Backend>(tensor: Raw<B>) -> Option<FlexTensor> {
    let tensor = crate::constant::<Flex, B>(tensor)?;
    (tensor.dtype() == DType::F32).then(|| tensor.to_contiguous())
}

/// `None` if there is a tensor and it is no constant.
fn constants<B: Backend>(tensor: Option<Raw<B>>) -> Option<Option<FlexTensor>> {
    tensor.map_or(Some(None), |tensor| constant::<B>(tensor).map(Some))
}

/// A function of contiguous tensors in f32.
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

#[derive(Debug)]
pub(crate) struct Flat<K>(K);

impl<K: Kernel<N>, const N: usize> Function<Flex, N> for Flat<K> {
    type State = K::State;

    fn prepare(&self, inputs: [FlexTensor; N]) -> Option<[FlexTensor; N]> {
        let f32s = inputs.iter().all(|input| input.dtype() == DType::F32);
        let takes = f32s && self.0.takes(&inputs);
        takes.then(|| inputs.map(|input| input.to_contiguous()))
    }

    fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, K::State) {
        self.0.forward(inputs)
    }

    fn backward(
        self,
        state: K::State,
        output: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N] {
        self.0.backward(state, output.to_contiguous(), wanted)
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
