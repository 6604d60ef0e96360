use super::init::Init;
use super::{Linear, sdpa};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;

/// Attention pooling of CLIP's ResNets (Radford et al., 2021, section 2.4): the mean of all tokens, with a position of
/// its own, looks at them and at itself.
///
/// open_clip's `AttentionPool2d`.
#[derive(Module, Debug)]
pub struct AttentionPool2d<B: Backend> {
    /// `[1 + patches, width]`, the mean's row first.
    pub positional_embedding: Param<Tensor<B, 2>>,
    /// Keys.
    pub k_proj: Linear<B>,
    /// Queries.
    pub q_proj: Linear<B>,
    /// Values.
    pub v_proj: Linear<B>,
    /// From the joined heads to the embedding.
    pub c_proj: Linear<B>,
    /// Number of heads; divides the width.
    pub heads: usize,
}

impl<B: Backend> AttentionPool2d<B> {
    /// Pooling of `patches` tokens into `embed_dim` values, with open_clip's initial weights.
    pub fn new(
        patches: usize,
        width: usize,
        heads: usize,
        embed_dim: usize,
        init: &mut Init,
        device: &Device<B>,
    ) -> Self {
        let std = (width as f64).powf(-0.5);
        Self {
            positional_embedding: init.normal([1 + patches, width], std, device),
            k_proj: projection(width, width, init, device),
            q_proj: projection(width, width, init, device),
            v_proj: projection(width, width, init, device),
            c_proj: projection(width, embed_dim, init, device),
            heads,
        }
    }

    /// # Shapes
    ///
    /// - x: `[batch, patches, width]`
    /// - output: `[batch, embed_dim]`, in the dtype of `x`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        let dtype = x.dtype();
        let [batch, patches, width] = x.dims();
        let mean = x.clone().cast(DType::F32).mean_dim(1).cast(dtype);
        let positions = self.positional_embedding.val().cast(dtype);
        let tokens = Tensor::cat(vec![mean, x], 1) + positions.unsqueeze();
        // Only the mean's own output is asked for.
        let query = tokens.clone().narrow(1, 0, 1);
        let heads = |x: Tensor<B, 3>, seq: usize| {
            x.reshape([batch, seq, self.heads, width / self.heads])
                .swap_dims(1, 2) // [batch, heads, seq, head_dim]
        };
        let q = heads(self.q_proj.forward(query), 1);
        let k = heads(self.k_proj.forward(tokens.clone()), 1 + patches);
        let v = heads(self.v_proj.forward(tokens), 1 + patches);
        let context = sdpa(q, k, v, None).swap_dims(1, 2).reshape([batch, width]);
        self.c_proj.forward(context)
    }
}

/// Weight normal with deviation `in^-½`; the bias is PyTorch's, uniform within the same.
pub(crate) fn projection<B: Backend>(
    inputs: usize,
    outputs: usize,
    init: &mut Init,
    device: &Device<B>,
) -> Linear<B> {
    let std = (inputs as f64).powf(-0.5);
    Linear {
        weight: init.normal([outputs, inputs], std, device),
        bias: Some(init.uniform([outputs], std, device)),
    }
}
