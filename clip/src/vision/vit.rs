//! Vision transformer (Dosovitskiy et al., 2021) as CLIP uses it (Radford et al., 2021, section 2.4).
//!
//! Fields carry the names of open_clip's state dict.

use crate::nn::init::Init;
use crate::nn::{BlockInit, LayerNorm, PatchEmbed, Transformer, TransformerConfig, sin_cos_2d};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;

/// How the tokens of an image become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisionPool {
    /// The class token.
    Tok,
    /// The mean of the patch tokens.
    Avg,
}

/// Architecture of a [`Vit`].
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Height and width of the input in pixels.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Whether the patch projection has a bias, as timm's has. Such a tower also starts as LaCLIP's do.
    pub patch_bias: bool,
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
    /// Dtype of the activations inside the tower.
    pub compute: DType,
}

impl VitConfig {
    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.map(|side| side / self.patch_size)
    }

    /// A tower with initial weights, distributed as open_clip's, or as LaCLIP's with `patch_bias`.
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Vit<B> {
        let block = &self.transformer.block;
        let width = block.width;
        let scale = (width as f64).powf(-0.5);
        let [rows, columns] = self.grid();
        let norm = |init: &Init| LayerNorm::new(width, block.norm_eps, init, device);
        let positions = 1 + rows * columns;
        let positional_embedding = if self.sin_cos_positions {
            let table = TensorData::new(sin_cos_2d(width, rows), [positions, width]);
            Param::from_tensor(Tensor::from_data(table, device)).set_require_grad(false)
        } else if self.patch_bias {
            init.truncated_normal([positions, width], TIMM_STD, device)
        } else {
            init.normal([positions, width], scale, device)
        };
        let blocks = match self.patch_bias {
            true => BlockInit::Linear,
            false => BlockInit::PyTorch,
        };
        Vit {
            conv1: PatchEmbed::new(width, self.patch_size, self.patch_bias, init, device),
            class_embedding: match self.patch_bias {
                true => init.truncated_normal([width], TIMM_STD, device),
                false => init.normal([width], scale, device),
            },
            positional_embedding,
            ln_pre: self.ln_pre.then(|| norm(init)),
            transformer: self.transformer.init(blocks, init, device),
            ln_post: norm(init),
            proj: init.normal([width, self.embed_dim], scale, device),
            pool: self.pool,
            final_ln_after_pool: self.final_ln_after_pool,
            compute: self.compute,
        }
    }
}

/// Deviation of the class token and the positions in timm's vision transformers.
const TIMM_STD: f64 = 0.02;

/// Encodes images into the shared space.
#[derive(Module, Debug)]
pub struct Vit<B: Backend> {
    /// Patch projection.
    pub conv1: PatchEmbed<B>,
    /// `[width]`.
    pub class_embedding: Param<Tensor<B, 1>>,
    /// `[1 + patches, width]`, the class token's row first.
    pub positional_embedding: Param<Tensor<B, 2>>,
    /// Norm before the blocks.
    pub ln_pre: Option<LayerNorm<B>>,
    /// Residual blocks.
    pub transformer: Transformer<B>,
    /// Norm after the blocks.
    pub ln_post: LayerNorm<B>,
    /// `[width, embed_dim]`, used as `x @ proj`.
    pub proj: Param<Tensor<B, 2>>,
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
        self.head(self.transformer.forward(self.embed(image), None))
    }

    /// The input of the first block.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - output: `[batch, 1 + patches, width]`
    pub fn embed(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        self.with_class_token(self.embed_patches(image))
    }

    /// As [`Vit::embed`], keeping only some patches of each image (see [`crate::nn::PatchDropout`]).
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - kept: `[batch, kept]`, indices of patches
    /// - output: `[batch, 1 + kept, width]`
    pub fn embed_kept(&self, image: Tensor<B, 4>, kept: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let patches = self.embed_patches(image);
        let [_, _, width] = patches.dims();
        let index = kept.unsqueeze_dim::<3>(2).repeat_dim(2, width);
        self.with_class_token(patches.gather(1, index))
    }

    /// Patch tokens with their positions added.
    fn embed_patches(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        let patches = self.conv1.forward(image.cast(self.compute));
        let [_, count, width] = patches.dims();
        let positions = self.positional_embedding.val();
        assert_eq!(
            positions.dims(),
            [1 + count, width],
            "the image has {count} patches, the tower was built for {}",
            positions.dims()[0] - 1,
        );
        patches + positions.narrow(0, 1, count).cast(self.compute).unsqueeze()
    }

    fn with_class_token(&self, patches: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, _, width] = patches.dims();
        let position = self.positional_embedding.val().narrow(0, 0, 1); // [1, width]
        let class = self.class_embedding.val().unsqueeze::<2>() + position;
        let class = class
            .cast(self.compute)
            .unsqueeze::<3>()
            .expand([batch, 1, width]);
        let tokens = Tensor::cat(vec![class, patches], 1);
        match &self.ln_pre {
            Some(ln_pre) => ln_pre.forward(tokens),
            None => tokens,
        }
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

    /// The pooled and normed vector before projection.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, 1 + patches, width]`
    /// - output: `[batch, width]`
    pub fn pooled(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        match (self.pool, self.final_ln_after_pool) {
            // The norm acts on each token alone, so only the class token needs it.
            (VisionPool::Tok, _) => self.ln_post.forward(x.narrow(1, 0, 1).squeeze_dim::<2>(1)),
            (VisionPool::Avg, true) => self.ln_post.forward(mean_of_patches(x)),
            (VisionPool::Avg, false) => mean_of_patches(self.ln_post.forward(x)),
        }
    }

    /// The patch tokens after the last block, normed unless the norm follows pooling.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, 1 + patches, width]`
    /// - output: `[batch, patches, width]`
    pub fn patch_tokens(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let patches = x.dims()[1] - 1;
        let x = if self.final_ln_after_pool {
            x
        } else {
            self.ln_post.forward(x)
        };
        x.narrow(1, 1, patches)
    }

    /// # Shapes
    ///
    /// - pooled: `[batch, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn project(&self, pooled: Tensor<B, 2>) -> Tensor<B, 2> {
        let dtype = pooled.dtype();
        pooled.matmul(self.proj.val().cast(dtype)).cast(DType::F32)
    }
}

fn mean_of_patches<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    let [_, seq, _] = x.dims();
    let dtype = x.dtype();
    x.narrow(1, 1, seq - 1)
        .cast(DType::F32)
        .mean_dim(1)
        .squeeze_dim::<2>(1)
        .cast(dtype)
}
