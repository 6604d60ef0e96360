//! What evaluation needs of a model.

use burn::tensor::{Tensor, backend::Backend};
use clip::Pretrained;
use clip::nn::l2_normalize;
use clip::preprocess::Preprocess;

use crate::error::{EvalError, Result};

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

impl<B: Backend> DualEncoder<B> for Pretrained<B> {
    fn embed_dim(&self) -> usize {
        self.config.embed_dim
    }

    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn encode_images(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        l2_normalize(self.model.encode_image(images))
    }

    fn encode_texts(&self, texts: &[String]) -> Result<Tensor<B, 2>> {
        let ids = self
            .tokenizer
            .batch(texts)
            .map_err(|e| EvalError::Encoder(e.to_string()))?;
        let device = self.model.logit_scale.val().device();
        Ok(l2_normalize(self.model.encode_text(ids.to_tensor(&device))))
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        let context = self.tokenizer.context_length();
        let longer = self.tokenizer.clone().with_context_length(context + 1);
        let is_cut = |text: &&String| longer.encode(text).is_ok_and(|ids| ids.len() > context);
        Some(texts.iter().filter(is_cut).count())
    }
}
