use super::init::Init;
use burn::module::Param;
use burn::prelude::*;

/// `x @ weightᵀ + bias`, with the weight stored as `[out, in]`.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// PyTorch's default: weight and bias uniform within `1 / sqrt(in)`.
    pub fn new(inputs: usize, outputs: usize, init: &mut Init, device: &Device<B>) -> Self {
        let bound = (inputs as f64).powf(-0.5);
        Self {
            weight: init.uniform([outputs, inputs], bound, device),
            bias: Some(init.uniform([outputs], bound, device)),
        }
    }

    /// Weight normal with the given deviation, bias zero.
    pub fn normal(
        inputs: usize,
        outputs: usize,
        std: f64,
        init: &mut Init,
        device: &Device<B>,
    ) -> Self {
        Self {
            weight: init.normal([outputs, inputs], std, device),
            bias: Some(init.constant([outputs], 0.0, device)),
        }
    }

    /// Weight truncated normal with the given deviation (timm's `trunc_normal_`), bias zero.
    pub fn truncated_normal(
        inputs: usize,
        outputs: usize,
        std: f64,
        init: &mut Init,
        device: &Device<B>,
    ) -> Self {
        Self {
            weight: init.truncated_normal([outputs, inputs], std, device),
            bias: Some(init.constant([outputs], 0.0, device)),
        }
    }

    /// # Shapes
    ///
    /// - x: `[..., in]`
    /// - output: `[..., out]`, in the dtype of `x`
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        linear(
            x,
            self.weight.val(),
            self.bias.as_ref().map(|bias| bias.val()),
        )
    }

    /// `beside` plus what [`forward`](Self::forward) gives, in one go where there is a kernel.
    ///
    /// # Shapes
    ///
    /// - x: `[..., in]`
    /// - beside, output: `[..., out]`, in the dtype of `x`
    pub fn forward_beside<const D: usize>(
        &self,
        x: Tensor<B, D>,
        beside: Tensor<B, D>,
    ) -> Tensor<B, D> {
        let shape = beside.dims();
        let weight = self.weight.val();
        let [outputs, inputs] = weight.dims();
        let rows = shape[..D - 1].iter().product::<usize>();
        let made = self.bias.as_ref().and_then(|bias| {
            let x = x.clone().reshape([rows, inputs]);
            let beside = beside.clone().reshape([rows, outputs]);
            kernels::linear_add(&x, &weight, &bias.val(), &beside)
        });
        match made {
            Some(y) => y.reshape(shape),
            None => beside + self.forward(x),
        }
    }
}

/// `x @ weightᵀ + bias` in the dtype of `x`.
///
/// # Shapes
///
/// - x: `[..., in]`
/// - weight: `[out, in]`
/// - bias: `[out]`
/// - output: `[..., out]`
pub fn linear<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, D> {
    let dtype = x.dtype();
    let [outputs, inputs] = weight.dims();
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    shape[D - 1] = outputs;

    // One two-dimensional product: a batched one would broadcast the weight.
    let x = x.reshape([rows, inputs]);
    // Kernels that cast by themselves, and give gradients in the parameters' own type.
    let y = match &bias {
        Some(bias) => kernels::linear(&x, &weight, bias),
        None => kernels::product(&x, &weight),
    };
    if let Some(y) = y {
        return y.reshape(shape);
    }
    let weight = weight.cast(dtype);
    let Some(bias) = bias else {
        return x.matmul(weight.transpose()).reshape(shape);
    };
    let bias = bias.cast(dtype);
    let y = kernels::linear(&x, &weight, &bias);
    y.unwrap_or_else(|| x.matmul(weight.transpose()) + bias.unsqueeze())
        .reshape(shape)
}
