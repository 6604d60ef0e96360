//! The model as `--no-normalize` wants it.

use burn::prelude::*;
use clip_burn::clip::preprocess::Preprocess;
use clip_burn::eval::{DualEncoder, EvalError, TextEncoder};
use clip_burn::models::Model;

/// A model whose embeddings keep their length where that is asked for.
pub struct Encoder<'a, B: Backend> {
    pub model: &'a Model<B>,
    pub normalize: bool,
}

impl<B: Backend> TextEncoder<B> for Encoder<'_, B> {
    fn embed_dim(&self) -> usize {
        self.model.embed_dim()
    }

    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<B, 2>, EvalError> {
        self.model.text_embeddings(texts)
    }

    fn encode_texts(&self, texts: &[String]) -> Result<Tensor<B, 2>, EvalError> {
        match self.normalize {
            true => self.model.encode_texts(texts),
            false => self.model.text_embeddings(texts),
        }
    }

    fn identity(&self) -> Result<Option<String>, EvalError> {
        self.model.identity()
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        self.model.truncated(texts)
    }
}

impl<B: Backend> DualEncoder<B> for Encoder<'_, B> {
    fn preprocess(&self) -> &Preprocess {
        self.model.preprocess()
    }

    fn image_embeddings(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.model.image_embeddings(images)
    }

    fn encode_images(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        match self.normalize {
            true => self.model.encode_images(images),
            false => self.model.image_embeddings(images),
        }
    }

    fn scale(&self) -> Option<f32> {
        self.model.scale()
    }
}
