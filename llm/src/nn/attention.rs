use super::{Context, LayerCache, Projection};
use crate::config::LlamaConfig;
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::softmax;
use clip::nn::init::Init;
use clip::nn::sdpa;

/// Grouped-query attention: several heads of queries share one head of keys and values.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// `[heads · head_dim, width]`.
    pub q_proj: Projection<B>,
    /// `[kv_heads · head_dim, width]`.
    pub k_proj: Projection<B>,
    /// `[kv_heads · head_dim, width]`.
    pub v_proj: Projection<B>,
    /// `[width, heads · head_dim]`.
    pub o_proj: Projection<B>,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl<B: Backend> Attention<B> {
    /// Initial weights.
    pub fn new(config: &LlamaConfig, init: &mut Init, device: &Device<B>) -> Self {
        let (width, head_dim) = (config.hidden_size, config.head_dim);
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        Self {
            q_proj: Projection::new(width, heads * head_dim, init, device),
            k_proj: Projection::new(width, kv_heads * head_dim, init, device),
            v_proj: Projection::new(width, kv_heads * head_dim, init, device),
            o_proj: Projection::new(heads * head_dim, width, init, device),
            heads,
            kv_heads,
            head_dim,
        }
    }

    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - cache: the layer's, and how many positions it holds; the bias counts them and the new ones
    /// - output: `[batch, seq, width]`
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        context: &Context<B>,
        cache: Option<(&mut LayerCache<B>, usize)>,
    ) -> Tensor<B, 3> {
        let [batch, seq, _] = x.dims();
        let (heads, kv_heads, dim) = (self.heads, self.kv_heads, self.head_dim);
        let (rotation, dropout) = (&context.rotation, context.dropout.as_ref());
        let q = rotation.apply(self.q_proj.forward(x.clone(), dropout));
        let k = rotation.apply(self.k_proj.forward(x.clone(), dropout));
        let v = self.v_proj.forward(x, dropout);
        let bias = context.bias.as_ref();
        if cache.is_none()
            && let Some(seen) = kernels::grouped_attention([&q, &k, &v], heads, kv_heads, bias)
        {
            return self.o_proj.forward(seen, dropout);
        }
        let split = |x: Tensor<B, 3>, heads: usize| {
            x.reshape([batch, seq, heads, dim]).swap_dims(1, 2) // [batch, heads, seq, head_dim]
        };
        let (q, bias) = (split(q, heads), bias.cloned());
        let [k, v] = [k, v].map(|x| split(x, kv_heads));
        let [k, v] = match cache {
            Some((cache, at)) => cache.extend(k, v, at),
            None => [k, v],
        };
        // The heads of a group become positions of one head, so that keys and values need not be repeated.
        let q = q.reshape([batch, kv_heads, heads / kv_heads * seq, dim]);
        let seen = match seq {
            1 => attend(q, k, v, bias),
            _ => sdpa(q, k, v, bias),
        };
        let seen = seen
            .reshape([batch, heads, seq, dim])
            .swap_dims(1, 2)
            .reshape([batch, seq, heads * dim]);
        self.o_proj.forward(seen, dropout)
    }
}

/// [`sdpa`] for the few queries of a decode step, spelled out: products read a part of the cache where it lies, while
/// the fused form of CPU backends copies it first.
fn attend<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    bias: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let (dtype, dim) = (q.dtype(), q.dims()[3]);
    let scale = (dim as f64).powf(-0.5);
    let scores = (q * scale).matmul(k.transpose()).cast(DType::F32);
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    softmax(scores, 3).cast(dtype).matmul(v)
}
