use super::init::Init;
use super::{BlockConfig, LayerNorm, Linear, Mlp, sdpa};
use burn::module::Param;
use burn::prelude::*;

/// Attention pooling of SigLIP (Zhai et al., 2023): one learned query looks at all tokens, then an MLP.
///
/// timm's `AttentionPoolLatent`, big_vision's `MAPHead`.
#[derive(Module, Debug)]
pub struct AttentionPool<B: Backend> {
    /// The query before its projection, `[1, width]`.
    pub latent: Param<Tensor<B, 2>>,
    /// Projection of the query.
    pub q: Linear<B>,
    /// Projection of the tokens, `[2 · width, width]`: rows of the keys, then values.
    pub kv: Linear<B>,
    /// Output projection.
    pub proj: Linear<B>,
    /// Norm before the MLP.
    pub norm: LayerNorm<B>,
    /// Residual MLP.
    pub mlp: Mlp<B>,
    /// Number of heads; divides the width.
    pub heads: usize,
}

impl<B: Backend> AttentionPool<B> {
    /// Pooling over the output of blocks of this shape, with timm's initial weights.
    pub fn new(block: &BlockConfig, init: &mut Init, device: &Device<B>) -> Self {
        let (width, hidden) = (block.width, block.hidden);
        let mut linear =
            |inputs, outputs| Linear::truncated_normal(inputs, outputs, 0.02, init, device);
        let (q, kv, proj) = (
            linear(width, width),
            linear(width, 2 * width),
            linear(width, width),
        );
        let mlp = Mlp {
            c_fc: linear(width, hidden),
            c_proj: linear(hidden, width),
            activation: block.activation,
        };
        Self {
            latent: init.cut_normal([1, width], (width as f64).powf(-0.5), device),
            q,
            kv,
            proj,
            norm: LayerNorm::new(width, block.norm_eps, init, device),
            mlp,
            heads: block.heads,
        }
    }

    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - output: `[batch, width]`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        let [batch, seq, width] = x.dims();
        let head_dim = width / self.heads;
        let latent = self.latent.val().cast(x.dtype());
        let q = self.q.forward(latent).reshape([1, self.heads, 1, head_dim]);
        let q = q.expand([batch, self.heads, 1, head_dim]);
        let kv = self
            .kv
            .forward(x)
            .reshape([batch, seq, 2, self.heads, head_dim]);
        // [batch, heads, seq, head_dim] each
        let [k, v] = [0, 1].map(|i| {
            kv.clone()
                .narrow(2, i, 1)
                .squeeze_dim::<4>(2)
                .swap_dims(1, 2)
        });
        let context = sdpa(q, k, v, None).swap_dims(1, 2).reshape([batch, width]);
        let x = self.proj.forward(context);
        x.clone() + self.mlp.forward(self.norm.forward(x))
    }
}
