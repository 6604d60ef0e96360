//! EVA-02's vision transformer (Fang et al., 2023) as EVA-CLIP uses it (Sun et al., 2023).
//!
//! Against a [`super::Vit`]: norms inside the attention and the MLP before their last projections (sub-LN), a gated MLP,
//! no bias of the keys, rotary positions beside the learned ones, and a head with bias. Fields carry the names of
//! [`super::Vit`] where the part is the same.

use crate::nn::init::Init;
use crate::nn::{LayerNorm, Linear, PatchEmbed, Rope, RopeConfig, add_row, sdpa};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::silu;

use super::vit::TIMM_STD;

/// Architecture of an [`Eva02`].
#[derive(Debug, Clone, PartialEq)]
pub struct Eva02Config {
    /// Height and width of the input in pixels.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads; divides `width`, with a quotient that is a multiple of four.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub hidden: usize,
    /// Side of the grid of patches whose rotary positions the tower was pre-trained with.
    pub rope_reference: usize,
    /// Epsilon of every layer norm.
    pub norm_eps: f64,
    /// Dimension of the space shared with the text tower.
    pub embed_dim: usize,
    /// Dtype of the activations inside the tower.
    pub compute: DType,
}

impl Eva02Config {
    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.map(|side| side / self.patch_size)
    }

    /// A tower with initial weights, distributed as timm's and EVA-CLIP's.
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Eva02<B> {
        let width = self.width;
        let [rows, columns] = self.grid();
        let resblocks = (1..=self.layers)
            .map(|layer| self.block(layer, init, device))
            .collect();
        Eva02 {
            conv1: PatchEmbed::new(width, self.patch_size, true, init, device),
            class_embedding: init.truncated_normal([width], TIMM_STD, device),
            positional_embedding: init.truncated_normal(
                [1 + rows * columns, width],
                TIMM_STD,
                device,
            ),
            transformer: Eva02Transformer { resblocks },
            ln_post: LayerNorm::new(width, self.norm_eps, init, device),
            head: self.new_head(init, device),
            rope: RopeConfig {
                grid: [rows, columns],
                reference: self.rope_reference,
                head_dim: width / self.heads,
            },
            compute: self.compute,
        }
    }

    /// The initial head. Near zero: the direction of the embedding is learned within the first steps.
    pub(crate) fn new_head<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Linear<B> {
        Linear::truncated_normal(self.width, self.embed_dim, TIMM_STD * 1e-3, init, device)
    }

    /// Block `layer`, counted from 1: the last projections of its branches are smaller by the root of twice that.
    fn block<B: Backend>(
        &self,
        layer: usize,
        init: &mut Init,
        device: &Device<B>,
    ) -> Eva02Block<B> {
        let (width, hidden) = (self.width, self.hidden);
        let last = TIMM_STD / (2.0 * layer as f64).sqrt();
        let norm = |width: usize, init: &Init| LayerNorm::new(width, self.norm_eps, init, device);
        let mut linear =
            |inputs, outputs, std| Linear::truncated_normal(inputs, outputs, std, init, device);
        let (q_proj, k_proj, v_proj) = (
            linear(width, width, TIMM_STD),
            linear(width, width, TIMM_STD),
            linear(width, width, TIMM_STD),
        );
        let k_proj = Linear {
            bias: None,
            ..k_proj
        };
        let out_proj = linear(width, width, last);
        let (gate, value, c_proj) = (
            linear(width, hidden, TIMM_STD),
            linear(width, hidden, TIMM_STD),
            linear(hidden, width, last),
        );
        Eva02Block {
            ln_1: norm(width, init),
            attn: Eva02Attention {
                q_proj,
                k_proj,
                v_proj,
                ln_inner: norm(width, init),
                out_proj,
                heads: self.heads,
            },
            ln_2: norm(width, init),
            mlp: SwiGlu {
                gate,
                value,
                ln_inner: norm(hidden, init),
                c_proj,
            },
        }
    }
}

/// Encodes images into the shared space.
#[derive(Module, Debug)]
pub struct Eva02<B: Backend> {
    /// Patch projection.
    pub conv1: PatchEmbed<B>,
    /// `[width]`.
    pub class_embedding: Param<Tensor<B, 1>>,
    /// `[1 + patches, width]`, the class token's row first.
    pub positional_embedding: Param<Tensor<B, 2>>,
    /// Residual blocks.
    pub transformer: Eva02Transformer<B>,
    /// Norm after the blocks.
    pub ln_post: LayerNorm<B>,
    /// From the class token to the embedding.
    pub head: Linear<B>,
    #[module(skip)]
    rope: RopeConfig,
    #[module(skip)]
    compute: DType,
}

/// The residual blocks of an [`Eva02`].
#[derive(Module, Debug)]
pub struct Eva02Transformer<B: Backend> {
    /// In order of application.
    pub resblocks: Vec<Eva02Block<B>>,
}

impl<B: Backend> Eva02<B> {
    /// One embedding per image, not normalized.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`, normalized with the checkpoint's mean and std
    /// - output: `[batch, embed_dim]`, f32
    ///
    /// # Panics
    ///
    /// Panics if the image does not have the configured size.
    pub fn forward(&self, image: Tensor<B, 4>) -> Tensor<B, 2> {
        self.project(self.pooled(self.tokens(image)))
    }

    /// The output of the last block, before the final norm and before pooling.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - output: `[batch, 1 + patches, width]`
    pub fn tokens(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        let x = self.embed(image);
        let rope = self.rope(&x.device());
        let blocks = self.transformer.resblocks.iter();
        blocks.fold(x, |x, block| block.forward(x, &rope))
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        self.positional_embedding.lazy_shape()[0] - 1
    }

    /// The rotary positions that every block takes.
    pub fn rope(&self, device: &Device<B>) -> Rope<B> {
        self.rope.angles(1, device)
    }

    /// The input of the first block.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - output: `[batch, 1 + patches, width]`
    pub fn embed(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        let patches = self.conv1.forward(image.cast(self.compute));
        let [batch, count, width] = patches.dims();
        assert_eq!(
            count,
            self.patches(),
            "patches of the image, and those that the tower was built for"
        );
        let class = self.class_embedding.val().cast(self.compute);
        let class = class.unsqueeze::<3>().expand([batch, 1, width]);
        let positions = self.positional_embedding.val().cast(self.compute);
        add_row(Tensor::cat(vec![class, patches], 1), positions.unsqueeze())
    }

    /// From the output of the last block to the embedding.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, 1 + patches, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn head(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        self.project(self.pooled(x))
    }

    /// The normed class token before projection.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, 1 + patches, width]`
    /// - output: `[batch, width]`
    pub fn pooled(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        // The norm acts on each token alone, so only the class token needs it.
        self.ln_post.forward(x.narrow(1, 0, 1).squeeze_dim::<2>(1))
    }

    /// The patch tokens after the last block, normed.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, 1 + patches, width]`
    /// - output: `[batch, patches, width]`
    pub fn patch_tokens(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.ln_post.forward(self.raw_patch_tokens(x))
    }

    /// The patch tokens after the last block, without the final norm.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, 1 + patches, width]`
    /// - output: `[batch, patches, width]`
    pub fn raw_patch_tokens(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [_, seq, _] = x.dims();
        x.narrow(1, 1, seq - 1)
    }

    /// # Shapes
    ///
    /// - pooled: `[batch, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn project(&self, pooled: Tensor<B, 2>) -> Tensor<B, 2> {
        self.head.forward(pooled).cast(DType::F32)
    }
}

/// Pre-norm residual block: attention, then a gated MLP, each with a norm inside.
#[derive(Module, Debug)]
pub struct Eva02Block<B: Backend> {
    /// Norm before attention.
    pub ln_1: LayerNorm<B>,
    /// Self-attention.
    pub attn: Eva02Attention<B>,
    /// Norm before the MLP.
    pub ln_2: LayerNorm<B>,
    /// Gated MLP.
    pub mlp: SwiGlu<B>,
}

impl<B: Backend> Eva02Block<B> {
    /// # Shapes
    ///
    /// - x, output: `[batch, 1 + patches, width]`
    pub fn forward(&self, x: Tensor<B, 3>, rope: &Rope<B>) -> Tensor<B, 3> {
        let x = x.clone() + self.attn.forward(self.ln_1.forward(x), rope);
        x.clone() + self.mlp.forward(self.ln_2.forward(x))
    }
}

/// Multi-head self-attention with rotary positions and a norm before its output projection.
#[derive(Module, Debug)]
pub struct Eva02Attention<B: Backend> {
    /// Queries.
    pub q_proj: Linear<B>,
    /// Keys, without bias: a softmax does not see it.
    pub k_proj: Linear<B>,
    /// Values.
    pub v_proj: Linear<B>,
    /// Norm of the joined heads.
    pub ln_inner: LayerNorm<B>,
    /// Output projection.
    pub out_proj: Linear<B>,
    /// Number of heads; divides the width.
    pub heads: usize,
}

impl<B: Backend> Eva02Attention<B> {
    /// # Shapes
    ///
    /// - x, output: `[batch, 1 + patches, width]`
    pub fn forward(&self, x: Tensor<B, 3>, rope: &Rope<B>) -> Tensor<B, 3> {
        let [batch, seq, width] = x.dims();
        let heads = self.heads;
        let split = |x: Tensor<B, 3>| x.reshape([batch, seq, heads, width / heads]);
        let turned = |x: Tensor<B, 3>| rope.rotate(split(x)).reshape([batch, seq, width]);
        let q = turned(self.q_proj.forward(x.clone()));
        let k = turned(self.k_proj.forward(x.clone()));
        let v = self.v_proj.forward(x);
        let context = kernels::grouped_attention([&q, &k, &v], heads, heads, None);
        let context = context.unwrap_or_else(|| {
            let [q, k, v] = [q, k, v].map(|x| split(x).swap_dims(1, 2));
            let context = sdpa(q, k, v, None).swap_dims(1, 2);
            context.reshape([batch, seq, width])
        });
        self.out_proj.forward(self.ln_inner.forward(context))
    }
}

/// Gated MLP (Shazeer, 2020) with a norm before its last layer.
#[derive(Module, Debug)]
pub struct SwiGlu<B: Backend> {
    /// width → hidden, through SiLU.
    pub gate: Linear<B>,
    /// width → hidden.
    pub value: Linear<B>,
    /// Norm of their product.
    pub ln_inner: LayerNorm<B>,
    /// hidden → width.
    pub c_proj: Linear<B>,
}

impl<B: Backend> SwiGlu<B> {
    /// # Shapes
    ///
    /// - x, output: `[..., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let (gate, value) = (self.gate.forward(x.clone()), self.value.forward(x));
        let hidden = kernels::swiglu(&gate, &value).unwrap_or_else(|| silu(gate) * value);
        self.c_proj.forward(self.ln_inner.forward(hidden))
    }
}
