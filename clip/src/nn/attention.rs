use super::init::Init;
use super::{LayerNorm, Linear, linear};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

/// Multi-head self-attention with one fused projection for queries, keys and values.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// `[3 · width, width]`: rows of the queries, then keys, then values.
    pub in_proj_weight: Param<Tensor<B, 2>>,
    /// `[3 · width]`.
    pub in_proj_bias: Param<Tensor<B, 1>>,
    /// Norm of each head's queries, where the model has one.
    pub ln_q: Option<LayerNorm<B>>,
    /// Norm of each head's keys.
    pub ln_k: Option<LayerNorm<B>>,
    /// Output projection.
    pub out_proj: Linear<B>,
    /// Number of heads; divides the width.
    pub heads: usize,
}

impl<B: Backend> Attention<B> {
    /// Builds the layer around given projections.
    pub fn new(
        in_proj: Linear<B>,
        out_proj: Linear<B>,
        heads: usize,
        qk_norm_eps: Option<f64>,
        init: &Init,
        device: &Device<B>,
    ) -> Self {
        let width = in_proj.weight.lazy_shape()[1]; // `dims` would make the tensor of a skeleton
        let norm = || qk_norm_eps.map(|eps| LayerNorm::new(width / heads, eps, init, device));
        Self {
            in_proj_weight: in_proj.weight,
            in_proj_bias: in_proj.bias.expect("the fused projection has a bias"),
            ln_q: norm(),
            ln_k: norm(),
            out_proj,
            heads,
        }
    }

    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - bias: `[1 or batch, 1, seq, seq]` f32, added to the scores
    /// - output: `[batch, seq, width]`
    pub fn forward(&self, x: Tensor<B, 3>, bias: Option<Tensor<B, 4>>) -> Tensor<B, 3> {
        self.out_proj.forward(self.context(x, bias))
    }

    /// `beside` plus what [`forward`](Self::forward) gives.
    ///
    /// # Shapes
    ///
    /// - x, beside, output: `[batch, seq, width]`
    /// - bias: `[1 or batch, 1, seq, seq]` f32, added to the scores
    pub fn forward_beside(
        &self,
        x: Tensor<B, 3>,
        bias: Option<Tensor<B, 4>>,
        beside: Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        self.out_proj.forward_beside(self.context(x, bias), beside)
    }

    /// `[batch, seq, width]`: what the heads have gathered, side by side.
    fn context(&self, x: Tensor<B, 3>, bias: Option<Tensor<B, 4>>) -> Tensor<B, 3> {
        let qkv = self.packed(x);
        if self.ln_q.is_none()
            && self.ln_k.is_none()
            && let Some(context) = kernels::attention(&qkv, self.heads, bias.as_ref())
        {
            return context;
        }
        let [q, k, v] = self.split(qkv);
        together(sdpa(q, k, v, bias))
    }

    /// Queries, keys and values of every head.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - output: `[batch, heads, seq, head_dim]` each
    pub fn project(&self, x: Tensor<B, 3>) -> [Tensor<B, 4>; 3] {
        self.split(self.packed(x))
    }

    /// `[batch, seq, 3 · width]`: queries, keys and values side by side, before their norms.
    fn packed(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        linear(x, self.in_proj_weight.val(), Some(self.in_proj_bias.val()))
    }

    fn split(&self, qkv: Tensor<B, 3>) -> [Tensor<B, 4>; 3] {
        let [batch, seq, width] = qkv.dims();
        let head_dim = width / 3 / self.heads;
        let qkv = qkv.reshape([batch, seq, 3, self.heads, head_dim]);
        let [q, k, v] = [0, 1, 2].map(|i| {
            qkv.clone()
                .narrow(2, i, 1)
                .squeeze_dim::<4>(2)
                .swap_dims(1, 2)
        });
        let normed = |norm: &Option<LayerNorm<B>>, x| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        [normed(&self.ln_q, q), normed(&self.ln_k, k), v]
    }

    /// The output of what the heads have gathered.
    ///
    /// # Shapes
    ///
    /// - context: `[batch, heads, seq, head_dim]`
    /// - output: `[batch, seq, width]`
    pub fn join(&self, context: Tensor<B, 4>) -> Tensor<B, 3> {
        self.out_proj.forward(together(context))
    }
}

/// `[batch, heads, seq, head_dim]` as `[batch, seq, heads · head_dim]`.
fn together<B: Backend>(context: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, heads, seq, head_dim] = context.dims();
    context
        .swap_dims(1, 2)
        .reshape([batch, seq, heads * head_dim])
}

/// `softmax(q kᵀ / sqrt(head_dim) + bias) v`, with the softmax in f32.
///
/// # Shapes
///
/// - q, k, v: `[batch, heads, seq, head_dim]`
/// - bias: broadcastable to `[batch, heads, seq, seq]`, f32, finite
/// - output: `[batch, heads, seq, head_dim]`
pub fn sdpa<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    bias: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let dtype = q.dtype();
    let [batch, heads, seq, head_dim] = q.dims();
    let scale = (head_dim as f64).powf(-0.5);
    if !B::ad_enabled(&q.device()) && dtype == DType::F32 {
        // An explicit scale keeps GPU backends off their fused kernels, which misread strided inputs in burn 0.21.
        let options = AttentionModuleOptions {
            scale: Some(scale),
            softcap: None,
            is_causal: false,
        };
        let bias = bias.map(|bias| bias.expand([batch, heads, seq, k.dims()[2]]));
        return attention(q, k, v, None, bias, options);
    }
    // Scaled in f32: most scales are no bf16 numbers, and all scores would be off by the same factor.
    let q = (q.cast(DType::F32) * scale).cast(dtype);
    let scores = q.matmul(k.transpose()).cast(DType::F32);
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    softmax(scores, 3).cast(dtype).matmul(v)
}
