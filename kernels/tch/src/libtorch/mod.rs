//! Which call takes which inputs.

mod activation;
mod attention;
mod batch;
mod calls;
mod layer_norm;
mod linear;
mod optimizer;
mod recorded;
mod rms_norm;
mod rotary;
mod swiglu;

use activation::Activate;
use attention::{Grouped, Packed};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::Bytes;
use burn_tch::{LibTorch, LibTorchDevice, TchTensor};
use kernels::{
    Activation, AdamW, Function, Ids, Kernels, Raw, Updates, constant, here, run, same, there,
    untracked,
};
use layer_norm::LayerNorm;
use linear::Linear;
use rms_norm::RmsNorm;
use rotary::Rotary;
use std::fmt::Debug;
use swiglu::SwiGlu;
use tch::{Device, Kind, Tensor};

/// Kernels of LibTorch in f32 and bf16, on the CPU and on CUDA.
#[derive(Debug)]
pub struct LibTorchKernels;

/// From now on layers on LibTorch ask these kernels, with and without gradients.
pub fn register() {
    kernels::register::<LibTorch>(&LibTorchKernels);
    kernels::register::<Autodiff<LibTorch>>(&LibTorchKernels);
}

impl<B: Backend> Kernels<B> for LibTorchKernels {
    fn layer_norm(&self, inputs: [Raw<B>; 3], eps: f64) -> Option<Raw<B>> {
        made::<B, _, 3>(LayerNorm { eps }, inputs)
    }

    fn activation(&self, kind: Activation, x: Raw<B>) -> Option<Raw<B>> {
        made::<B, _, 1>(Activate(kind), [x])
    }

    fn attention(&self, qkv: Raw<B>, heads: usize, mask: Option<Raw<B>>) -> Option<Raw<B>> {
        let mask = constants::<B>(mask)?;
        made::<B, _, 1>(Packed { heads, mask }, [qkv])
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
        made::<B, _, 3>(function, qkv)
    }

    fn rms_norm(&self, inputs: [Raw<B>; 2], eps: f64) -> Option<Raw<B>> {
        made::<B, _, 2>(RmsNorm { eps }, inputs)
    }

    fn rotary(&self, x: Raw<B>, [cos, sin]: [Raw<B>; 2]) -> Option<Raw<B>> {
        let cos = constant::<LibTorch, B>(cos)?;
        let sin = constant::<LibTorch, B>(sin)?;
        made::<B, _, 1>(Rotary { cos, sin }, [x])
    }

    fn swiglu(&self, inputs: [Raw<B>; 2]) -> Option<Raw<B>> {
        made::<B, _, 2>(SwiGlu, inputs)
    }

    fn look_up(
        &self,
        pixels: Bytes,
        images: usize,
        tables: &[[f32; 256]; 3],
        device: &burn::tensor::Device<B>,
    ) -> Result<Raw<B>, Bytes> {
        let made = place::<B>(device).and_then(|at| batch::look_up(&pixels, images, tables, at));
        let made = made.map(TchTensor::new).and_then(untracked::<LibTorch, B>);
        made.ok_or(pixels)
    }

    fn ids(
        &self,
        ids: &[i32],
        shape: [usize; 2],
        device: &burn::tensor::Device<B>,
    ) -> Option<Ids<B>> {
        same(TchTensor::new(batch::ids(ids, shape, place::<B>(device)?)))
    }

    fn linear(&self, inputs: [Raw<B>; 3]) -> Option<Raw<B>> {
        made::<B, _, 3>(Linear, inputs)
    }

    fn adamw(&self, numbers: AdamW, tensors: [Raw<B>; 4]) -> Option<[Raw<B>; 3]> {
        let made = Kernels::<B>::adamw_all(self, vec![(numbers, tensors)]);
        made.ok()?.pop()
    }

    fn adamw_all(&self, updates: Updates<Raw<B>>) -> Result<Vec<[Raw<B>; 3]>, Updates<Raw<B>>> {
        optimizer::adamw(here(updates)?).map(there).map_err(there)
    }

    fn norm(&self, tensors: Vec<Raw<B>>) -> Option<Raw<B>> {
        let tensors: Vec<TchTensor> = same(tensors)?;
        same(optimizer::norm(&tensors)?)
    }

    fn scale(&self, tensors: Vec<Raw<B>>, factor: Raw<B>) -> Result<Vec<Raw<B>>, Vec<Raw<B>>> {
        let (tensors, factor) = here((tensors, factor)).map_err(|(tensors, _)| tensors)?;
        let factor: TchTensor = factor;
        optimizer::scale(tensors, &factor).map(there).map_err(there)
    }
}

/// A device that these kernels know.
fn place<B: Backend>(device: &burn::tensor::Device<B>) -> Option<Device> {
    let device: LibTorchDevice = same(device.clone())?;
    let device = Device::from(device);
    matches!(device, Device::Cpu | Device::Cuda(_)).then_some(device)
}

fn made<B: Backend, K: Kernel<N>, const N: usize>(
    kernel: K,
    inputs: [Raw<B>; N],
) -> Option<Raw<B>> {
    run::<LibTorch, B, _, N>(Contiguous(kernel), inputs)
}

/// `None` if there is a tensor and it is no constant.
fn constants<B: Backend>(tensor: Option<Raw<B>>) -> Option<Option<TchTensor>> {
    tensor.map_or(Some(None), |tensor| {
        constant::<LibTorch, B>(tensor).map(Some)
    })
}

/// A function of contiguous tensors on one device.
trait Kernel<const N: usize>: Debug + Send + 'static {
    /// What the gradient needs.
    type State: Clone + Debug + Send + 'static;

    /// Whether these inputs, which are f32 or bf16, can be worked on.
    fn takes(&self, inputs: &[TchTensor; N]) -> bool;

    fn forward(&self, inputs: [TchTensor; N]) -> (TchTensor, Self::State);

    /// Gradients of those inputs that are wanted, from the output's. They share no memory with anything.
    fn backward(
        self,
        state: Self::State,
        output: &Tensor,
        wanted: [bool; N],
    ) -> [Option<Tensor>; N];
}

#[derive(Debug)]
struct Contiguous<K>(K);

impl<K: Kernel<N>, const N: usize> Function<LibTorch, N> for Contiguous<K> {
    type State = K::State;

    fn prepare(&self, inputs: [TchTensor; N]) -> Option<[TchTensor; N]> {
        let device = inputs.first()?.tensor.device();
        let fits = |input: &TchTensor| {
            matches!(input.tensor.kind(), Kind::Float | Kind::BFloat16)
                && input.tensor.device() == device
        };
        let takes = matches!(device, Device::Cpu | Device::Cuda(_))
            && inputs.iter().all(fits)
            && self.0.takes(&inputs);
        takes.then(|| inputs.map(contiguous))
    }

    fn forward(&self, inputs: [TchTensor; N]) -> (TchTensor, K::State) {
        self.0.forward(inputs)
    }

    fn backward(
        self,
        state: K::State,
        output: TchTensor,
        wanted: [bool; N],
    ) -> [Option<TchTensor>; N] {
        let output = contiguous(output);
        let gradients = self.0.backward(state, &output.tensor, wanted);
        gradients.map(|gradient| gradient.map(TchTensor::new))
    }
}

fn contiguous(tensor: TchTensor) -> TchTensor {
    match tensor.tensor.is_contiguous() {
        true => tensor,
        false => TchTensor::new(tensor.tensor.contiguous()),
    }
}

fn shape(tensor: &TchTensor) -> Vec<i64> {
    tensor.tensor.size()
}

/// All of one kind.
fn alike(tensors: &[TchTensor]) -> bool {
    let kind = |tensor: &TchTensor| tensor.tensor.kind();
    tensors.windows(2).all(|two| kind(&two[0]) == kind(&two[1]))
}
