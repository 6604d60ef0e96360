//! The captioner: an image and its web caption in, the full synthetic caption out (section 3.3 of the paper; the code is
//! OpenVision's `text_decoder.py`, fusion by concatenation).

mod config;
mod generate;

pub use config::{CaptionerConfig, CaptionerOptions, Decoder};
pub use generate::Limits;

use burn::module::Param;
use burn::prelude::*;
use clip::nn::{Block, LayerNorm, Linear, MASKED, Transformer, lookup};
use clip::text::TokenEmbedding;

/// A decoder that reads tokens of both towers as a prefix and predicts a caption behind it.
///
/// Exactly one of `learnable_tokens` and `token_embedding` is there, see [`Decoder`].
#[derive(Module, Debug)]
pub struct Captioner<B: Backend> {
    /// From the vision tower's width.
    pub image_projection: Linear<B>,
    /// From the text tower's width.
    pub text_projection: Linear<B>,
    /// `[queries, width]`.
    pub learnable_tokens: Option<Param<Tensor<B, 2>>>,
    /// Vectors of the tokens before the predicted one.
    pub token_embedding: Option<TokenEmbedding<B>>,
    /// `[queries, width]`, of these tokens.
    pub positional_embedding: Option<Param<Tensor<B, 2>>>,
    /// Residual blocks.
    pub transformer: Transformer<B>,
    /// Norm behind the blocks.
    pub ln_final: LayerNorm<B>,
    /// From the width to logits.
    pub head: Linear<B>,
}

impl<B: Backend> Captioner<B> {
    /// Tokens that are predicted at most.
    pub fn queries(&self) -> usize {
        let table = self
            .learnable_tokens
            .as_ref()
            .or(self.positional_embedding.as_ref());
        table
            .expect("a captioner has queries or positions")
            .lazy_shape()[0]
    }

    /// Whether a token is predicted from the ones before it.
    pub fn is_autoregressive(&self) -> bool {
        self.token_embedding.is_some()
    }

    /// What every predicted position may read.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, patches, image_width]`, without a class token and before the final norm
    /// - text: `[batch, seq, text_width]`, without the class token and before the final norm
    /// - output: `[batch, patches + seq, width]`
    pub fn prefix(&self, image: Tensor<B, 3>, text: Tensor<B, 3>) -> Tensor<B, 3> {
        Tensor::cat(
            vec![
                self.image_projection.forward(image),
                self.text_projection.forward(text),
            ],
            1,
        )
    }

    /// What stands at the first `count` predicted positions. `previous` are the tokens before the predicted ones, and are
    /// read by an autoregressive decoder only.
    ///
    /// # Shapes
    ///
    /// - previous: `[batch, count]`
    /// - output: `[batch, count, width]`
    ///
    /// # Panics
    ///
    /// Panics if `count` exceeds the queries, or an autoregressive decoder gets no previous tokens.
    pub fn inputs(
        &self,
        batch: usize,
        count: usize,
        previous: Option<Tensor<B, 2, Int>>,
    ) -> Tensor<B, 3> {
        self.inputs_from(0, batch, count, previous)
    }

    fn inputs_from(
        &self,
        start: usize,
        batch: usize,
        count: usize,
        previous: Option<Tensor<B, 2, Int>>,
    ) -> Tensor<B, 3> {
        if let Some(tokens) = &self.learnable_tokens {
            let tokens = tokens.val().narrow(0, start, count);
            let [_, width] = tokens.dims();
            return tokens.unsqueeze::<3>().expand([batch, count, width]);
        }
        let (table, positions) = (&self.token_embedding, &self.positional_embedding);
        let table = table
            .as_ref()
            .expect("a captioner without queries has tokens")
            .weight
            .val();
        let positions = positions
            .as_ref()
            .expect("and positions")
            .val()
            .narrow(0, start, count);
        let previous = previous.expect("an autoregressive decoder reads previous tokens");
        let [_, width] = table.dims();
        let tokens = lookup(table, previous.reshape([batch * count]));
        clip::nn::add_row(tokens.reshape([batch, count, width]), positions.unsqueeze())
    }

    /// What the blocks add to the attention scores: the prefix reads all of itself and no predicted position; a predicted
    /// position reads the prefix, itself and the ones before it.
    ///
    /// # Shapes
    ///
    /// - output: `[1, 1, prefix + count, prefix + count]`, f32
    pub fn mask(prefix: usize, count: usize, device: &Device<B>) -> Tensor<B, 4> {
        let all = prefix + count;
        let hidden = |query: usize, key: usize| key >= prefix && key > query;
        let rows = (0..all).flat_map(|query| (0..all).map(move |key| hidden(query, key)));
        let rows = rows
            .map(|hidden| if hidden { MASKED } else { 0.0 })
            .collect();
        Tensor::from_data(TensorData::new(rows, [1, 1, all, all]), device)
    }

    /// From the output of the last block to what the head reads.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, prefix + count, width]`
    /// - output: `[batch, count, width]`
    pub fn predicted(&self, x: Tensor<B, 3>, count: usize) -> Tensor<B, 3> {
        let [_, all, _] = x.dims();
        self.ln_final.forward(x.narrow(1, all - count, count))
    }

    /// Logits of the first `count` tokens. See [`inputs`](Self::inputs) for `previous`.
    ///
    /// # Shapes
    ///
    /// - prefix: `[batch, seq, width]`
    /// - previous: `[batch, count]`
    /// - output: `[batch, count, vocab_size]`
    pub fn forward(
        &self,
        prefix: Tensor<B, 3>,
        count: usize,
        previous: Option<Tensor<B, 2, Int>>,
    ) -> Tensor<B, 3> {
        let ([batch, seq, _], device, dtype) = (prefix.dims(), prefix.device(), prefix.dtype());
        let inputs = self.inputs(batch, count, previous).cast(dtype);
        let mask = Self::mask(seq, count, &device);
        let x = Tensor::cat(vec![prefix, inputs], 1);
        let x = self
            .transformer
            .resblocks
            .iter()
            .fold(x, |x, block: &Block<B>| {
                block.forward(x, Some(mask.clone()))
            });
        self.head.forward(self.predicted(x, count))
    }
}

#[cfg(test)]
mod tests;
