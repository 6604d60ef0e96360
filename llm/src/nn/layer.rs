use super::{Attention, Context, Dropout, LayerCache, Projection, RmsNorm};
use crate::config::LlamaConfig;
use burn::prelude::*;
use burn::tensor::activation::silu;
use clip::nn::init::Init;

/// SwiGLU: `down(silu(gate(x)) · up(x))`.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    /// `[intermediate, width]`; Meta's `w1`.
    pub gate_proj: Projection<B>,
    /// `[intermediate, width]`; Meta's `w3`.
    pub up_proj: Projection<B>,
    /// `[width, intermediate]`; Meta's `w2`.
    pub down_proj: Projection<B>,
}

impl<B: Backend> Mlp<B> {
    /// # Shapes
    ///
    /// - x and output: `[batch, seq, width]`
    pub fn forward(&self, x: Tensor<B, 3>, dropout: Option<&Dropout>) -> Tensor<B, 3> {
        let gate = self.gate_proj.forward(x.clone(), dropout);
        let up = self.up_proj.forward(x, dropout);
        let inner = kernels::swiglu(&gate, &up).unwrap_or_else(|| silu(gate) * up);
        self.down_proj.forward(inner, dropout)
    }
}

/// One residual layer: attention, then MLP, each after a norm.
#[derive(Module, Debug)]
pub struct Layer<B: Backend> {
    /// Norm before the attention.
    pub input_layernorm: RmsNorm<B>,
    /// Attention.
    pub self_attn: Attention<B>,
    /// Norm before the MLP.
    pub post_attention_layernorm: RmsNorm<B>,
    /// MLP.
    pub mlp: Mlp<B>,
}

impl<B: Backend> Layer<B> {
    /// Initial weights.
    pub fn new(config: &LlamaConfig, init: &mut Init, device: &Device<B>) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |init: &Init| RmsNorm::new(width, config.rms_norm_eps, init, device);
        Self {
            input_layernorm: norm(init),
            self_attn: Attention::new(config, init, device),
            post_attention_layernorm: norm(init),
            mlp: Mlp {
                gate_proj: Projection::new(width, inner, init, device),
                up_proj: Projection::new(width, inner, init, device),
                down_proj: Projection::new(inner, width, init, device),
            },
        }
    }

    /// # Shapes
    ///
    /// - x and output: `[batch, seq, width]`
    /// - cache: see [`Attention::forward`]
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        context: &Context<B>,
        cache: Option<(&mut LayerCache<B>, usize)>,
    ) -> Tensor<B, 3> {
        let normed = self.input_layernorm.forward(x.clone());
        let x = x + self.self_attn.forward(normed, context, cache);
        let normed = self.post_attention_layernorm.forward(x.clone());
        x + self.mlp.forward(normed, context.dropout.as_ref())
    }
}
