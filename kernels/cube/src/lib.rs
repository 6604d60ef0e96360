//! Kernels for burn's backends on cubecl: one source for CUDA and WebGPU.
//!
//! They are of the project's own, written in cubecl and launched on burn's own streams; matrix products are burn's, or on CUDA
//! cuBLASLt's where that is asked for. Inputs are
//! f32 or bf16, arithmetic within a kernel is f32. Sums are taken in an order that shapes and device decide: a run can be
//! repeated.
//!
//! | kernel | launches forward | backward |
//! |---|---|---|
//! | layer norm, RMS norm | 1 | 2; the gradient is added to what other uses of the input have given |
//! | activation, SwiGLU, rotary positions | 1 | 1, SwiGLU 2 |
//! | attention on packed queries, keys and values | 3 and 2 products | 3 and 4 products |
//! | attention with shared keys and values | 5 and 2 products | 5 and 4 products |
//! | linear layer, with an activation or without | 2 (cast of the weight, bias) and 1 product | 1 or 2 (bias), 1 more for an activation, and 2 products |
//! | the same added to another tensor | as many | as many |
//! | rows of a table | 1 | 1 |
//! | pixels from bytes | 1 | – |
//! | AdamW, norm of gradients, scaling of gradients | 1 for many parameters at once | – |
//!
//! With burn's `fusion` tensors are of another type, and these kernels see none of them.

#![cfg(feature = "cube")]

mod activate;
mod attention;
mod cube;
#[cfg(feature = "cuda")]
mod cublaslt;
mod embedding;
#[cfg(feature = "cuda")]
mod gemm;
mod heads;
mod linear;
mod norm;
mod optimizer;
mod pixels;
mod rotary;
mod softmax;
mod sum;
mod swiglu;
mod tensor;

#[cfg(feature = "cuda")]
pub use cublaslt::use_cublaslt;

use activate::Activate;
use attention::{Grouped, Packed};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::{Bytes, DType};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use embedding::Embedding;
use kernels::{
    Activation, AdamW, Function, Ids, Kernels, Raw, Updates, here, run, same, there, untracked,
};
use linear::{Linear, LinearAdd};
use norm::Norm;
use rotary::Rotary;
use std::fmt::Debug;
use std::marker::PhantomData;
use swiglu::SwiGlu;
use tensor::{contiguous, is_float, shape};

/// From now on the layers of backend `F`, and of `Autodiff<F>`, ask these kernels first. To be called before the first model
/// runs; again is harmless.
pub fn register<F, R>()
where
    R: CubeRuntime,
    F: Backend<FloatTensorPrimitive = CubeTensor<R>>,
{
    kernels::register::<F>(&CubeKernels::<F, R>(PhantomData));
    kernels::register::<Autodiff<F>>(&CubeKernels::<F, R>(PhantomData));
}

/// Kernels of backend `F` on runtime `R`.
struct CubeKernels<F, R>(PhantomData<fn() -> (F, R)>);

impl<B, F, R> Kernels<B> for CubeKernels<F, R>
where
    B: Backend,
    R: CubeRuntime,
    F: Backend<FloatTensorPrimitive = CubeTensor<R>>,
{
    fn layer_norm(&self, inputs: [Raw<B>; 3], eps: f64) -> Option<Raw<B>> {
        run::<F, B, _, 3>(On(Norm { eps }), inputs)
    }

    fn rms_norm(&self, inputs: [Raw<B>; 2], eps: f64) -> Option<Raw<B>> {
        run::<F, B, _, 2>(On(Norm { eps }), inputs)
    }

    fn activation(&self, kind: Activation, x: Raw<B>) -> Option<Raw<B>> {
        run::<F, B, _, 1>(On(Activate(kind)), [x])
    }

    fn swiglu(&self, inputs: [Raw<B>; 2]) -> Option<Raw<B>> {
        run::<F, B, _, 2>(On(SwiGlu), inputs)
    }

    fn rotary(&self, x: Raw<B>, [cos, sin]: [Raw<B>; 2]) -> Option<Raw<B>> {
        let (cos, sin) = (constant::<F, B, R>(cos)?, constant::<F, B, R>(sin)?);
        run::<F, B, _, 1>(On(Rotary { cos, sin }), [x])
    }

    fn attention(&self, qkv: Raw<B>, heads: usize, mask: Option<Raw<B>>) -> Option<Raw<B>> {
        let mask = constants::<F, B, R>(mask)?;
        run::<F, B, _, 1>(On(Packed { heads, mask }), [qkv])
    }

    fn grouped_attention(
        &self,
        qkv: [Raw<B>; 3],
        heads: usize,
        shared: usize,
        mask: Option<Raw<B>>,
    ) -> Option<Raw<B>> {
        let mask = constants::<F, B, R>(mask)?;
        let function = Grouped {
            heads,
            shared,
            mask,
        };
        run::<F, B, _, 3>(On(function), qkv)
    }

    fn linear(&self, inputs: [Raw<B>; 3]) -> Option<Raw<B>> {
        run::<F, B, _, 3>(On(Linear { activation: None }), inputs)
    }

    fn linear_activation(&self, kind: Activation, inputs: [Raw<B>; 3]) -> Option<Raw<B>> {
        let activation = Some(kind);
        run::<F, B, _, 3>(On(Linear { activation }), inputs)
    }

    fn embedding(&self, table: Raw<B>, ids: Ids<B>) -> Option<Raw<B>> {
        let ids = contiguous(same(ids)?);
        run::<F, B, _, 1>(On(Embedding { ids }), [table])
    }

    fn look_up(
        &self,
        pixels: Bytes,
        images: usize,
        tables: &[[f32; 256]; 3],
        device: &Device<B>,
    ) -> Result<Raw<B>, Bytes> {
        let Some(device) = same::<_, R::Device>(device.clone()) else {
            return Err(pixels);
        };
        let made = pixels::look_up::<R>(pixels, images, tables, &device)?;
        Ok(untracked::<F, B>(made).expect("registered for F and Autodiff<F> alone"))
    }

    fn linear_add(&self, inputs: [Raw<B>; 4]) -> Option<Raw<B>> {
        run::<F, B, _, 4>(On(LinearAdd), inputs)
    }

    fn adamw(&self, numbers: AdamW, tensors: [Raw<B>; 4]) -> Option<[Raw<B>; 3]> {
        let made = Kernels::<B>::adamw_all(self, vec![(numbers, tensors)]);
        made.ok()?.pop()
    }

    fn adamw_all(&self, updates: Updates<Raw<B>>) -> Result<Vec<[Raw<B>; 3]>, Updates<Raw<B>>> {
        match optimizer::adamw::<R>(here(updates)?) {
            Ok(made) => Ok(there(made)),
            Err(updates) => Err(there(updates)),
        }
    }

    fn norm(&self, tensors: Vec<Raw<B>>) -> Option<Raw<B>> {
        same(optimizer::norm::<R>(same(tensors)?)?)
    }

    fn scale(&self, tensors: Vec<Raw<B>>, factor: Raw<B>) -> Result<Vec<Raw<B>>, Vec<Raw<B>>> {
        let (tensors, factor) = here((tensors, factor)).map_err(|(tensors, _)| tensors)?;
        match optimizer::scale::<R>(tensors, factor) {
            Ok(made) => Ok(there(made)),
            Err(tensors) => Err(there(tensors)),
        }
    }
}

/// A contiguous tensor in f32 that takes no gradient.
fn constant<F, B, R>(tensor: Raw<B>) -> Option<CubeTensor<R>>
where
    B: Backend,
    R: CubeRuntime,
    F: Backend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let tensor = kernels::constant::<F, B>(tensor)?;
    (tensor.dtype == DType::F32).then(|| contiguous(tensor))
}

/// `None` if there is a tensor and it is no constant.
fn constants<F, B, R>(tensor: Option<Raw<B>>) -> Option<Option<CubeTensor<R>>>
where
    B: Backend,
    R: CubeRuntime,
    F: Backend<FloatTensorPrimitive = CubeTensor<R>>,
{
    tensor.map_or(Some(None), |tensor| constant::<F, B, R>(tensor).map(Some))
}

/// A function of contiguous tensors, each f32 or bf16.
trait Kernel<R: CubeRuntime, const N: usize>: Debug + Send + 'static {
    /// What the gradient needs.
    type State: Clone + Debug + Send + 'static;

    /// As of [`Function`].
    const ADDS: bool = false;

    /// Whether these inputs can be worked on.
    fn takes(&self, inputs: &[CubeTensor<R>; N]) -> bool;

    fn forward(&self, inputs: [CubeTensor<R>; N]) -> (CubeTensor<R>, Self::State);

    /// As of [`Function`].
    fn onto(_state: &mut Self::State, gradient: CubeTensor<R>) -> Option<CubeTensor<R>> {
        Some(gradient)
    }

    /// Gradients of those inputs that are wanted, from the output's.
    fn backward(
        self,
        state: Self::State,
        output: CubeTensor<R>,
        wanted: [bool; N],
    ) -> [Option<CubeTensor<R>>; N];
}

#[derive(Debug)]
struct On<K>(K);

/// Elements of the largest tensor that is taken: indices are 32 bits.
const MOST: usize = 1 << 31;

impl<F, R, K, const N: usize> Function<F, N> for On<K>
where
    R: CubeRuntime,
    F: Backend<FloatTensorPrimitive = CubeTensor<R>>,
    K: Kernel<R, N>,
{
    type State = K::State;

    const ADDS: bool = K::ADDS;

    fn prepare(&self, inputs: [CubeTensor<R>; N]) -> Option<[CubeTensor<R>; N]> {
        let usable = |input: &CubeTensor<R>| {
            let elements = shape(input).iter().product::<usize>();
            is_float(input.dtype) && (1..MOST).contains(&elements)
        };
        let takes = inputs.iter().all(usable) && self.0.takes(&inputs);
        takes.then(|| inputs.map(contiguous))
    }

    fn forward(&self, inputs: [CubeTensor<R>; N]) -> (CubeTensor<R>, K::State) {
        self.0.forward(inputs)
    }

    fn onto(state: &mut K::State, gradient: CubeTensor<R>) -> Option<CubeTensor<R>> {
        K::onto(state, gradient)
    }

    fn backward(
        self,
        state: K::State,
        output: CubeTensor<R>,
        wanted: [bool; N],
    ) -> [Option<CubeTensor<R>>; N] {
        self.0.backward(state, contiguous(output), wanted)
    }
}
