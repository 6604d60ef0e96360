//! Vision transformer (Dosovitskiy et al., 2021) as CLIP uses it (Radford et al., 2021, section 2.4).
//!
//! Fields carry the names of open_clip's state dict.

use crate::nn::init::{Init, TowerInit};
use crate::nn::{
    AttentionPool, BlockInit, LayerNorm, PatchEmbed, Transformer, TransformerConfig, add_row,
    sin_cos_2d, sin_cos_2d_moco,
};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;

/// How the tokens of an image become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VisionPool {
    /// The class token.
    Tok,
    /// The mean of the patch tokens.
    Avg,
    /// Attention of one learned query over all tokens (SigLIP).
    Map,
}

/// Architecture of a [`Vit`].
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Height and width of the input in pixels.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Whether the patch projection has a bias, as timm's has.
    pub patch_bias: bool,
    /// Whether a class token stands before the patches.
    pub class_token: bool,
    /// The residual blocks; not causal.
    pub transformer: TransformerConfig,
    /// Dimension of the space shared with the text tower.
    pub embed_dim: usize,
    /// Norm of the embedded tokens before the first block.
    pub ln_pre: bool,
    /// Fixed sine-cosine positions in place of learned ones.
    pub sin_cos_positions: bool,
    /// Choice of the pooled vector.
    pub pool: VisionPool,
    /// Whether the final norm comes after pooling rather than before it.
    pub final_ln_after_pool: bool,
    /// Whether the pooled vector is projected; without, it is the embedding.
    pub projection: bool,
    /// How the weights start.
    pub init: TowerInit,
    /// Dtype of the activations inside the tower.
    pub compute: DType,
}

impl VitConfig {
    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.map(|side| side / self.patch_size)
    }

    /// A tower with initial weights.
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Vit<B> {
        let block = &self.transformer.block;
        let width = block.width;
        let scale = (width as f64).powf(-0.5);
        let norm = |init: &Init| LayerNorm::new(width, block.norm_eps, init, device);
        // The order of the draws is part of what a seed means.
        let positional_embedding = self.positions(init, device);
        let mut conv1 = PatchEmbed::new(width, self.patch_size, self.patch_bias, init, device);
        if self.init == TowerInit::Clips {
            // He's bound, which is JAX's; PyTorch's convolutions start smaller.
            let inputs = 3 * self.patch_size * self.patch_size;
            let shape = [width, 3, self.patch_size, self.patch_size];
            conv1.weight = init.uniform(shape, (6.0 / inputs as f64).sqrt(), device);
        }
        let class_embedding = self.class_token.then(|| match self.init {
            TowerInit::OpenClip => init.normal([width], scale, device),
            TowerInit::Clips => init.normal([width], 1e-6, device),
            TowerInit::Timm | TowerInit::SigLip | TowerInit::Eva02 => {
                init.truncated_normal([width], TIMM_STD, device)
            }
        });
        let blocks = match self.init {
            TowerInit::OpenClip => BlockInit::PyTorch,
            TowerInit::Timm => BlockInit::Linear,
            TowerInit::Clips => BlockInit::ClipsVision,
            TowerInit::SigLip | TowerInit::Eva02 => BlockInit::TruncatedNormal,
        };
        Vit {
            conv1,
            class_embedding,
            positional_embedding,
            ln_pre: self.ln_pre.then(|| norm(init)),
            transformer: self.transformer.init(blocks, init, device),
            ln_post: norm(init),
            attn_pool: (self.pool == VisionPool::Map)
                .then(|| AttentionPool::new(block, init, device)),
            proj: self.projection.then(|| self.new_projection(init, device)),
            pool: self.pool,
            final_ln_after_pool: self.final_ln_after_pool,
            compute: self.compute,
        }
    }

    /// The initial projection, `[width, embed_dim]`.
    pub(crate) fn new_projection<B: Backend>(
        &self,
        init: &mut Init,
        device: &Device<B>,
    ) -> Param<Tensor<B, 2>> {
        let width = self.transformer.block.width;
        let std = match self.init {
            TowerInit::Clips => TIMM_STD,
            _ => (width as f64).powf(-0.5),
        };
        init.normal([width, self.embed_dim], std, device)
    }

    fn positions<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Param<Tensor<B, 2>> {
        let width = self.transformer.block.width;
        let [rows, columns] = self.grid();
        let shape = [usize::from(self.class_token) + rows * columns, width];
        let fixed = |table: Vec<f32>| {
            let table = TensorData::new(table, shape);
            Param::from_tensor(Tensor::from_data(table, device)).set_require_grad(false)
        };
        match self.init {
            _ if self.sin_cos_positions => fixed(sin_cos_2d(width, rows)),
            // Without a square grid and a class token there is no such table; the positions are then learned.
            TowerInit::Clips if rows == columns && self.class_token && width.is_multiple_of(4) => {
                fixed(sin_cos_2d_moco(width, rows))
            }
            TowerInit::OpenClip => init.normal(shape, (width as f64).powf(-0.5), device),
            TowerInit::Timm | TowerInit::Clips | TowerInit::SigLip | TowerInit::Eva02 => {
                init.truncated_normal(shape, TIMM_STD, device)
            }
        }
    }
}

/// Deviation of the class token and the positions in timm's vision transformers.
pub(super) const TIMM_STD: f64 = 0.02;

/// Encodes images into the shared space.
#[derive(Module, Debug)]
pub struct Vit<B: Backend> {
    /// Patch projection.
    pub conv1: PatchEmbed<B>,
    /// `[width]`; absent in towers without a class token.
    pub class_embedding: Option<Param<Tensor<B, 1>>>,
    /// `[prefix + patches, width]`, the class token's row first where there is one.
    pub positional_embedding: Param<Tensor<B, 2>>,
    /// Norm before the blocks.
    pub ln_pre: Option<LayerNorm<B>>,
    /// Residual blocks.
    pub transformer: Transformer<B>,
    /// Norm after the blocks.
    pub ln_post: LayerNorm<B>,
    /// Pooling by attention.
    pub attn_pool: Option<AttentionPool<B>>,
    /// `[width, embed_dim]`, used as `x @ proj`; absent where the pooled vector is the embedding.
    pub proj: Option<Param<Tensor<B, 2>>>,
    #[module(skip)]
    pool: VisionPool,
    final_ln_after_pool: bool,
    #[module(skip)]
    compute: DType,
}

impl<B: Backend> Vit<B> {
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
        self.head(self.tokens(image))
    }

    /// Tokens before the patches: one with a class token, else none.
    pub fn prefix(&self) -> usize {
        usize::from(self.class_embedding.is_some())
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        self.positional_embedding.lazy_shape()[0] - self.prefix()
    }

    /// The input of the first block.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - output: `[batch, prefix + patches, width]`
    pub fn embed(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        self.with_class_token(self.embed_patches(image))
    }

    /// As [`Vit::embed`], keeping only some patches of each image (see [`crate::nn::PatchDropout`]).
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - kept: `[batch, kept]`, indices of patches
    /// - output: `[batch, prefix + kept, width]`
    pub fn embed_kept(&self, image: Tensor<B, 4>, kept: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let patches = self.embed_patches(image);
        let [_, _, width] = patches.dims();
        let index = kept.unsqueeze_dim::<3>(2).repeat_dim(2, width);
        self.with_class_token(patches.gather(1, index))
    }

    /// Patch tokens with their positions added.
    fn embed_patches(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        let patches = self.conv1.forward(image.cast(self.compute));
        let [_, count, _] = patches.dims();
        assert_eq!(
            count,
            self.patches(),
            "patches of the image, and those that the tower was built for"
        );
        let positions = self.positional_embedding.val();
        let positions = positions.narrow(0, self.prefix(), count);
        add_row(patches, positions.cast(self.compute).unsqueeze())
    }

    fn with_class_token(&self, patches: Tensor<B, 3>) -> Tensor<B, 3> {
        let tokens = match &self.class_embedding {
            Some(class) => {
                let [batch, _, width] = patches.dims();
                let position = self.positional_embedding.val().narrow(0, 0, 1); // [1, width]
                let class = class.val().unsqueeze::<2>() + position;
                let class = class
                    .cast(self.compute)
                    .unsqueeze::<3>()
                    .expand([batch, 1, width]);
                Tensor::cat(vec![class, patches], 1)
            }
            None => patches,
        };
        match &self.ln_pre {
            Some(ln_pre) => ln_pre.forward(tokens),
            None => tokens,
        }
    }

    /// The output of the last block, before the final norm and before pooling.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - output: `[batch, prefix + patches, width]`
    pub fn tokens(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        self.transformer.forward(self.embed(image), None)
    }

    /// The patches of [`Vit::tokens`], without the final norm: what a captioner reads.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, prefix + patches, width]`, the output of the last block
    /// - output: `[batch, patches, width]`
    pub fn raw_patch_tokens(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [_, seq, _] = x.dims();
        x.narrow(1, self.prefix(), seq - self.prefix())
    }

    /// From the output of the last block to the embedding.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, prefix + patches, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn head(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        self.project(self.pooled(x))
    }

    /// The pooled and normed vector before projection.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, prefix + patches, width]`
    /// - output: `[batch, width]`
    pub fn pooled(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        match (self.pool, self.final_ln_after_pool) {
            // The norm acts on each token alone, so only the class token needs it.
            (VisionPool::Tok, _) => self.ln_post.forward(x.narrow(1, 0, 1).squeeze_dim::<2>(1)),
            (VisionPool::Avg, true) => self.ln_post.forward(mean(self.raw_patch_tokens(x))),
            (VisionPool::Avg, false) => mean(self.raw_patch_tokens(self.ln_post.forward(x))),
            (VisionPool::Map, _) => {
                let pool = self.attn_pool.as_ref();
                let pool = pool.expect("a tower that pools by attention is built with it");
                pool.forward(self.ln_post.forward(x))
            }
        }
    }

    /// The patch tokens after the last block, normed unless the norm follows pooling.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, prefix + patches, width]`
    /// - output: `[batch, patches, width]`
    pub fn patch_tokens(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.raw_patch_tokens(match self.final_ln_after_pool {
            true => x,
            false => self.ln_post.forward(x),
        })
    }

    /// # Shapes
    ///
    /// - pooled: `[batch, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn project(&self, pooled: Tensor<B, 2>) -> Tensor<B, 2> {
        let dtype = pooled.dtype();
        let projected = match &self.proj {
            Some(proj) => pooled.matmul(proj.val().cast(dtype)),
            None => pooled,
        };
        projected.cast(DType::F32)
    }
}

fn mean<B: Backend>(tokens: Tensor<B, 3>) -> Tensor<B, 2> {
    let dtype = tokens.dtype();
    tokens
        .cast(DType::F32)
        .mean_dim(1)
        .squeeze_dim::<2>(1)
        .cast(dtype)
}
