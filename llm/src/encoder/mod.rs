//! A language model as an encoder of texts (BehnamGhader et al., 2024, "LLM2Vec"; Huang et al., 2024, "LLM2CLIP").

mod options;
mod pooling;
mod rows;
mod template;

pub use options::{EncoderOptions, Framing, Pooling};
pub use rows::TextRows;
pub use template::{SEPARATOR, Template};

use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::model::Decoder;
use crate::nn::{Context, Dropout};
use crate::tokenizer::Tokenizer;
use burn::prelude::*;
use rows::Row;

/// Turns texts into vectors. What it takes besides the network is plain data, so that a training task can hold
/// [`Self::model`] elsewhere.
#[derive(Debug, Clone)]
pub struct Encoder<B: Backend> {
    /// The network, without a head.
    pub model: Decoder<B>,
    /// Text → ids.
    pub tokenizer: Tokenizer,
    /// Architecture.
    pub config: LlamaConfig,
    /// How a text becomes a vector.
    pub options: EncoderOptions,
}

impl EncoderOptions {
    /// Tokens of texts, each after its instruction, which may be empty. Instructions take part in attention but are not
    /// pooled; LLM2CLIP has them in training only.
    ///
    /// # Errors
    ///
    /// Says which text has no tokens, or that the template leaves no room for any.
    pub fn rows<'a>(
        &self,
        tokenizer: &Tokenizer,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TextRows> {
        let rows = self.tokens(tokenizer, texts)?;
        Ok(TextRows::pad(&rows))
    }

    fn tokens<'a>(
        &self,
        tokenizer: &Tokenizer,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<Row>> {
        self.check()?;
        let row = |(instruction, text)| Row::new(tokenizer, self, instruction, text);
        texts.into_iter().map(row).collect()
    }

    /// What the layers need for these rows.
    pub fn context<B: Backend>(
        &self,
        model: &Decoder<B>,
        rows: &TextRows,
        dropout: Option<Dropout>,
        device: &Device<B>,
    ) -> Context<B> {
        let context = model.context(self.visibility, &rows.lengths, rows.seq, device);
        context.with_dropout(dropout)
    }
}

impl<B: Backend> Encoder<B> {
    /// One vector per row, in f32 and not normalised.
    ///
    /// # Shapes
    ///
    /// - output: `[rows, width]`
    ///
    /// # Panics
    ///
    /// Panics on ids that the model does not have; see [`TextRows::check`].
    pub fn embed(&self, rows: &TextRows, device: &Device<B>) -> Tensor<B, 2> {
        let context = self.options.context(&self.model, rows, None, device);
        let hidden = self.model.run(rows.to_tensor(device), &context);
        self.options.pooling.pool(hidden, rows)
    }

    /// One vector per text, in f32 and not normalised, `batch` texts at a time. Texts of similar length are computed
    /// together; the vectors come in the order of the texts.
    ///
    /// # Shapes
    ///
    /// - output: `[texts, width]`
    ///
    /// # Errors
    ///
    /// As [`EncoderOptions::rows`]; and for no texts, a batch of 0, and ids that the model does not have.
    pub fn encode<T: AsRef<str>>(
        &self,
        texts: &[T],
        batch: usize,
        device: &Device<B>,
    ) -> Result<Tensor<B, 2>> {
        if texts.is_empty() || batch == 0 {
            return Err(Error::Options(format!(
                "{} texts in batches of {batch}: both must be at least 1",
                texts.len()
            )));
        }
        let texts = texts.iter().map(|text| ("", text.as_ref()));
        let rows = self.options.tokens(&self.tokenizer, texts)?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(rows[*i].ids.len()));
        let parts = order.chunks(batch).map(|part| {
            let rows: Vec<Row> = part.iter().map(|i| rows[*i].clone()).collect();
            let rows = TextRows::pad(&rows);
            rows.check(self.config.vocab_size)?;
            Ok(self.embed(&rows, device))
        });
        let sorted = Tensor::cat(parts.collect::<Result<_>>()?, 0);
        let mut place = vec![0i32; order.len()];
        for (at, text) in order.iter().enumerate() {
            place[*text] = at as i32;
        }
        Ok(sorted.select(0, Tensor::from_data(place.as_slice(), device)))
    }
}
