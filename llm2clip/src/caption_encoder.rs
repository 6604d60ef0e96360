//! A language model alone, as what evaluation asks of an encoder of texts.

use crate::error::Result;
use crate::identity::identity;
use burn::prelude::*;
use eval::{EvalError, TextEncoder};
use llm::{Encoder, LoadOptions};
use std::path::Path;

/// Texts at a time.
pub(crate) const BATCH: usize = 32;

/// A language model whose vectors are compared with each other, without an adapter.
#[derive(Clone, Debug)]
pub struct CaptionEncoder<B: Backend> {
    /// The language model, and how a text becomes a vector.
    pub encoder: Encoder<B>,
    /// Texts that are computed together, those of similar length.
    pub batch: usize,
    device: Device<B>,
    identity: Option<String>,
}

impl<B: Backend> CaptionEncoder<B> {
    /// Around an encoder that is there.
    pub fn new(encoder: Encoder<B>, batch: usize, device: &Device<B>) -> Self {
        Self {
            encoder,
            batch,
            device: device.clone(),
            identity: None,
        }
    }

    /// Loads a directory of a language model, or `hf-hub:ORG/NAME`.
    ///
    /// # Errors
    ///
    /// As [`Encoder::load`].
    pub fn load(directory: &Path, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        let encoder = Encoder::load(directory, None, options, device)?;
        let identity = Some(identity(directory, &encoder.options)?);
        Ok(Self {
            identity,
            ..Self::new(encoder, BATCH, device)
        })
    }
}

impl<B: Backend> TextEncoder<B> for CaptionEncoder<B> {
    fn embed_dim(&self) -> usize {
        self.encoder.config.hidden_size
    }

    fn text_embeddings(&self, texts: &[String]) -> eval::Result<Tensor<B, 2>> {
        let vectors = self.encoder.encode(texts, self.batch, &self.device);
        vectors.map_err(|error| EvalError::Encoder(error.to_string()))
    }

    fn identity(&self) -> eval::Result<Option<String>> {
        Ok(self.identity.clone())
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        truncated(&self.encoder, texts)
    }
}

/// How many texts lose their end; `None` where that cannot be told.
pub(crate) fn truncated<B: Backend>(encoder: &Encoder<B>, texts: &[String]) -> Option<usize> {
    let texts = texts.iter().map(|text| ("", text.as_str()));
    let rows = encoder.options.rows(&encoder.tokenizer, texts).ok()?;
    Some(rows.truncated.iter().filter(|cut| **cut).count())
}
