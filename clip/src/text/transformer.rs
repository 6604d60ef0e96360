//! CLIP's text transformer (Radford et al., 2021, section 2.4) with the variations of open_clip.
//!
//! Fields carry the names of open_clip's state dict.

use crate::nn::init::{Init, TowerInit};
use crate::nn::{
    BlockInit, LayerNorm, Linear, MASKED, Transformer, TransformerConfig, add_row, lookup,
};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;

/// Which position of a text becomes its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextPool {
    /// The first occurrence of the largest id: CLIP's end-of-text token.
    Argmax,
    /// The first occurrence of this id. A text without it pools its first position.
    Eos(i64),
    /// The first position.
    First,
    /// The last position, padding included.
    Last,
}

/// Architecture of a [`TextTransformer`].
#[derive(Debug, Clone, PartialEq)]
pub struct TextTransformerConfig {
    /// Longest text in tokens.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// The residual blocks.
    pub transformer: TransformerConfig,
    /// Dimension of the space shared with the vision tower.
    pub embed_dim: usize,
    /// Choice of the pooled position.
    pub pool: TextPool,
    /// Appends a learned class embedding, which is then pooled.
    pub embed_cls: bool,
    /// Id that fills short texts; read only with `embed_cls`.
    pub pad_id: i64,
    /// Projection into the shared space.
    pub projection: TextProjectionKind,
    /// How the weights start.
    pub init: TowerInit,
    /// Dtype of the activations inside the tower.
    pub compute: DType,
}

/// Form of the final projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextProjectionKind {
    /// A bare matrix.
    Matrix,
    /// A linear layer with bias.
    Linear,
    /// None: the pooled vector is the embedding.
    None,
}

impl TextTransformerConfig {
    /// A tower with initial weights.
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> TextTransformer<B> {
        let block = &self.transformer.block;
        let (width, embed_dim) = (block.width, self.embed_dim);
        let std = (width as f64).powf(-0.5);
        let positions = self.context_length + usize::from(self.embed_cls);
        let blocks = match self.init {
            TowerInit::Clips => BlockInit::ClipsText,
            // The families differ in their vision towers only.
            TowerInit::OpenClip | TowerInit::Timm | TowerInit::SigLip | TowerInit::Eva02 => {
                BlockInit::ScaledNormal {
                    layers: self.transformer.layers,
                }
            }
        };
        TextTransformer {
            token_embedding: TokenEmbedding {
                weight: init.normal([self.vocab_size, width], 0.02, device),
            },
            cls_emb: self.embed_cls.then(|| init.normal([width], 0.01, device)),
            positional_embedding: init.normal([positions, width], 0.01, device),
            transformer: self.transformer.init(blocks, init, device),
            ln_final: LayerNorm::new(width, block.norm_eps, init, device),
            text_projection: match self.projection {
                TextProjectionKind::Matrix => Some(TextProjection::Matrix(init.normal(
                    [width, embed_dim],
                    std,
                    device,
                ))),
                TextProjectionKind::Linear => Some(TextProjection::Linear(Linear::normal(
                    width, embed_dim, std, init, device,
                ))),
                TextProjectionKind::None => None,
            },
            pool: self.pool,
            pad_id: self.pad_id,
            compute: self.compute,
        }
    }
}

/// Encodes token ids into the shared space.
#[derive(Module, Debug)]
pub struct TextTransformer<B: Backend> {
    /// Rows by token id.
    pub token_embedding: TokenEmbedding<B>,
    /// `[width]`; appended to every text where present.
    pub cls_emb: Option<Param<Tensor<B, 1>>>,
    /// `[context_length, width]`, one row more with `cls_emb`.
    pub positional_embedding: Param<Tensor<B, 2>>,
    /// Residual blocks.
    pub transformer: Transformer<B>,
    /// Norm after the blocks.
    pub ln_final: LayerNorm<B>,
    /// Projection into the shared space.
    pub text_projection: Option<TextProjection<B>>,
    #[module(skip)]
    pub(super) pool: TextPool,
    pad_id: i64,
    #[module(skip)]
    compute: DType,
}

/// Table of token vectors.
#[derive(Module, Debug)]
pub struct TokenEmbedding<B: Backend> {
    /// `[vocab_size, width]`.
    pub weight: Param<Tensor<B, 2>>,
}

/// From the width of the tower to the shared space.
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum TextProjection<B: Backend> {
    /// `[width, embed_dim]`, used as `x @ matrix`.
    Matrix(Param<Tensor<B, 2>>),
    /// With bias.
    Linear(Linear<B>),
}

impl<B: Backend> TextTransformer<B> {
    /// One embedding per text, not normalized.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`, `seq` at most the context length
    /// - output: `[batch, embed_dim]`, f32
    ///
    /// # Panics
    ///
    /// Panics if the texts are longer than the context length.
    pub fn forward(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        self.head(self.tokens(ids.clone()), ids)
    }

    /// The output of the last block, before the final norm and before pooling: what a decoder reads.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, seq, width]`, one position more with a class embedding
    pub fn tokens(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let mask = self.mask(&ids);
        self.transformer.forward(self.embed(ids), mask)
    }

    /// The input of the first block.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, seq, width]`, one position more with a class embedding
    pub fn embed(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [batch, seq] = ids.dims();
        let table = self.token_embedding.weight.val();
        let [_, width] = table.dims();
        let mut x = lookup(table, ids.reshape([batch * seq])).reshape([batch, seq, width]);
        if let Some(class) = &self.cls_emb {
            let class = class.val().unsqueeze::<3>().expand([batch, 1, width]);
            x = Tensor::cat(vec![x, class], 1);
        }
        let [_, seq, _] = x.dims();
        let positions = self.positional_embedding.val();
        assert!(
            seq <= positions.dims()[0],
            "a text has {seq} tokens, the tower reads at most {}",
            positions.dims()[0]
        );
        add_row(x, positions.narrow(0, 0, seq).unsqueeze()).cast(self.compute)
    }

    /// What the blocks add to the attention scores.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[1 or batch, 1, seq, seq]`, f32
    pub fn mask(&self, ids: &Tensor<B, 2, Int>) -> Option<Tensor<B, 4>> {
        let [batch, seq] = ids.dims();
        let device = ids.device();
        if self.cls_emb.is_none() {
            return self.transformer.mask(seq, &device);
        }
        // The reference puts the class token's entry in front of the padding mask although the token itself
        // stands last; released CoCa weights were trained that way.
        let padding = ids.clone().equal_elem(self.pad_id).float().cast(DType::F32) * MASKED;
        let class = Tensor::zeros([batch, 1], (&device, DType::F32));
        let keys = Tensor::cat(vec![class, padding], 1).reshape([batch, 1, 1, seq + 1]);
        Some(match self.transformer.mask(seq + 1, &device) {
            Some(causal) => causal + keys,
            None => keys.expand([batch, 1, seq + 1, seq + 1]),
        })
    }

    /// Whether the vector of a text stands at the last position, behind its padding.
    pub fn pools_last(&self) -> bool {
        self.cls_emb.is_some() || self.pool == TextPool::Last
    }

    /// From the output of the last block to the embedding.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - ids: `[batch, seq]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn head(&self, x: Tensor<B, 3>, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        self.project(self.pooled(x, ids))
    }

    /// The pooled and normed vector before projection.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - ids: `[batch, seq]`
    /// - output: `[batch, width]`
    pub fn pooled(&self, x: Tensor<B, 3>, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        let [batch, seq, width] = x.dims();
        let at = |position: usize| x.clone().narrow(1, position, 1);
        let pooled = match self.pool {
            _ if self.cls_emb.is_some() => at(seq - 1),
            TextPool::First => at(0),
            TextPool::Last => at(seq - 1),
            TextPool::Argmax => x.gather(1, position_index(first_of_largest(ids), width)),
            TextPool::Eos(id) => {
                let is_eos = ids.equal_elem(id).int();
                x.gather(1, position_index(first_of_largest(is_eos), width))
            }
        };
        // The norm acts on each position alone, so only the pooled one needs it.
        self.ln_final.forward(pooled.reshape([batch, width]))
    }

    /// # Shapes
    ///
    /// - pooled: `[batch, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn project(&self, pooled: Tensor<B, 2>) -> Tensor<B, 2> {
        let dtype = pooled.dtype();
        match &self.text_projection {
            Some(TextProjection::Matrix(matrix)) => pooled.matmul(matrix.val().cast(dtype)),
            Some(TextProjection::Linear(linear)) => linear.forward(pooled),
            None => pooled,
        }
        .cast(DType::F32)
    }
}

/// Position of the first largest value of each row, `[batch, 1]`.
///
/// Written with comparisons, because the order of ties in a device's `argmax` is not promised.
fn first_of_largest<B: Backend>(values: Tensor<B, 2, Int>) -> Tensor<B, 2, Int> {
    let [batch, seq] = values.dims();
    let device = values.device();
    let largest = values.clone().max_dim(1).expand([batch, seq]);
    let positions = Tensor::<B, 1, Int>::arange(0..seq as i64, &device);
    let positions = positions.unsqueeze::<2>().expand([batch, seq]);
    positions
        .mask_fill(values.not_equal(largest), seq as i64)
        .min_dim(1)
}

/// `[batch, 1]` → the `[batch, 1, width]` index that `gather` wants.
fn position_index<B: Backend>(position: Tensor<B, 2, Int>, width: usize) -> Tensor<B, 3, Int> {
    position.unsqueeze_dim::<3>(2).repeat_dim(2, width)
}
