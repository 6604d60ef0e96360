//! What evaluation needs of a model.

use burn::tensor::{Tensor, backend::Backend};
use clip::preprocess::Preprocess;

use crate::error::Result;

/// A model that puts images and texts into one space.
pub trait DualEncoder<B: Backend> {
    /// Dimension of the shared space.
    fn embed_dim(&self) -> usize;

    /// How images are brought to the model's size and range.
    fn preprocess(&self) -> &Preprocess;

    /// Embeds preprocessed images.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, 3, height, width]`
    /// - output: `[batch, embed_dim]`, rows of unit length
    fn encode_images(&self, images: Tensor<B, 4>) -> Tensor<B, 2>;

    /// Embeds texts.
    ///
    /// # Shapes
    ///
    /// - output: `[texts, embed_dim]`, rows of unit length
    fn encode_texts(&self, texts: &[String]) -> Result<Tensor<B, 2>>;

    /// How many of the texts lose their end because the context is too short, if the encoder can tell.
    fn truncated(&self, _texts: &[String]) -> Option<usize> {
        None
    }
}
