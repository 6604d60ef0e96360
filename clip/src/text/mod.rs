//! Text towers: token ids → embeddings.

mod transformer;
mod trim;

pub use transformer::{
    TextPool, TextProjection, TextProjectionKind, TextTransformer, TextTransformerConfig,
    TokenEmbedding,
};

use burn::prelude::*;

/// The text tower of a model, chosen at run time.
///
/// Others match it in full, so that a new tower cannot lose block replay in training without a word.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one per model
pub enum TextTower<B: Backend> {
    /// CLIP's transformer.
    Transformer(TextTransformer<B>),
}

impl<B: Backend> TextTower<B> {
    /// One embedding per text, not normalized.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn forward(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        match self {
            Self::Transformer(transformer) => transformer.forward(ids),
        }
    }

    /// The output of the last block, before the final norm and before pooling: what a decoder reads.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, seq, width]`; one token more where the tower adds one
    pub fn tokens(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        match self {
            Self::Transformer(transformer) => transformer.tokens(ids),
        }
    }

    /// From the output of the last block to the embedding, not normalized.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - ids: `[batch, seq]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn head(&self, x: Tensor<B, 3>, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        match self {
            Self::Transformer(transformer) => transformer.head(x, ids),
        }
    }

    /// The tower as a [`TextTransformer`], where it is one.
    pub fn as_transformer(&self) -> Option<&TextTransformer<B>> {
        match self {
            Self::Transformer(transformer) => Some(transformer),
        }
    }
}
