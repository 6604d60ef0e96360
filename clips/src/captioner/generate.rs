//! Captions, token by token or all at once.

use super::Captioner;
use crate::error::{Error, Result};
use burn::prelude::*;
use burn::tensor::DType;
use clip::nn::{Block, sdpa};
use llm::Sampling;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a caption is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The token that an autoregressive decoder reads first.
    pub start: i32,
    /// The token that ends a caption.
    pub end: i32,
    /// Tokens from here on are never taken: rows of the head for which the vocabulary has no word.
    pub vocab_size: usize,
}

impl<B: Backend> Captioner<B> {
    /// Tokens of captions, without start and end. Row `i` draws from a generator of `seeds[i]`.
    ///
    /// # Shapes
    ///
    /// - prefix: `[batch, seq, width]`, from [`prefix`](Self::prefix)
    ///
    /// # Errors
    ///
    /// When logits are not finite.
    pub fn generate(
        &self,
        prefix: Tensor<B, 3>,
        limits: Limits,
        sampling: Sampling,
        seeds: &[u64],
    ) -> Result<Vec<Vec<i32>>> {
        let count = self.queries();
        let [batch, _, _] = prefix.dims();
        let mut captions = Captions::new(limits, sampling, seeds);
        if !self.is_autoregressive() {
            let logits = self.forward(prefix, count, None);
            for position in 0..count {
                captions.push(logits.clone().narrow(1, position, 1))?;
            }
            return Ok(captions.tokens);
        }
        let device = prefix.device();
        let mut past = self.read(prefix);
        let mut previous = vec![limits.start; batch];
        for position in 0..count {
            let ids = Tensor::from_data(TensorData::new(previous, [batch, 1]), &device);
            let input = self
                .inputs_from(position, batch, 1, Some(ids))
                .cast(past.dtype);
            previous = captions.push(self.advance(input, &mut past))?;
            if captions.all_ended() {
                break;
            }
        }
        Ok(captions.tokens)
    }

    /// Keys and values of the prefix: it reads nothing of what is predicted, so they stay.
    fn read(&self, prefix: Tensor<B, 3>) -> Past<B> {
        let mut past = Past {
            dtype: prefix.dtype(),
            layers: Vec::new(),
        };
        let mut x = prefix;
        for block in &self.transformer.resblocks {
            let (out, keys, values) = attend(block, x, None);
            past.layers.push((keys, values));
            x = out;
        }
        past
    }

    /// Logits behind one more position.
    fn advance(&self, input: Tensor<B, 3>, past: &mut Past<B>) -> Tensor<B, 3> {
        let mut x = input;
        for (block, layer) in self.transformer.resblocks.iter().zip(&mut past.layers) {
            let (out, keys, values) = attend(block, x, Some(layer.clone()));
            *layer = (keys, values);
            x = out;
        }
        self.head.forward(self.ln_final.forward(x))
    }
}

/// Keys and values of every layer, `[batch, heads, seq, head_dim]`.
struct Past<B: Backend> {
    dtype: DType,
    layers: Vec<(Tensor<B, 4>, Tensor<B, 4>)>,
}

/// A block that reads what came before and itself. Gives its output and all keys and values so far.
fn attend<B: Backend>(
    block: &Block<B>,
    x: Tensor<B, 3>,
    past: Option<(Tensor<B, 4>, Tensor<B, 4>)>,
) -> (Tensor<B, 3>, Tensor<B, 4>, Tensor<B, 4>) {
    let [q, keys, values] = block.attn.project(block.ln_1.forward(x.clone()));
    let (keys, values) = match past {
        Some((k, v)) => (
            Tensor::cat(vec![k, keys], 2),
            Tensor::cat(vec![v, values], 2),
        ),
        None => (keys, values),
    };
    let x = x + block.attn.join(sdpa(q, keys.clone(), values.clone(), None));
    let branch = block.mlp.forward(block.ln_2.forward(x.clone()));
    (x + branch, keys, values)
}

/// Captions that are being written, one for each row.
struct Captions {
    limits: Limits,
    sampling: Sampling,
    rngs: Vec<ChaCha8Rng>,
    tokens: Vec<Vec<i32>>,
    ended: Vec<bool>,
}

impl Captions {
    fn new(limits: Limits, sampling: Sampling, seeds: &[u64]) -> Self {
        Self {
            limits,
            sampling,
            rngs: seeds
                .iter()
                .map(|seed| ChaCha8Rng::seed_from_u64(*seed))
                .collect(),
            tokens: vec![Vec::new(); seeds.len()],
            ended: vec![false; seeds.len()],
        }
    }

    /// Adds a token to every caption that has not ended; gives the tokens.
    ///
    /// # Shapes
    ///
    /// - logits: `[batch, 1, vocab_size]`
    fn push<B: Backend>(&mut self, logits: Tensor<B, 3>) -> Result<Vec<i32>> {
        let [batch, _, rows] = logits.dims();
        let logits = logits.into_data().convert::<f32>();
        let logits = logits.as_slice::<f32>().expect("converted to f32");
        let known = self.limits.vocab_size.min(rows);
        let mut drawn = vec![self.limits.end; batch];
        for (row, logits) in logits.chunks_exact(rows).enumerate() {
            if self.ended[row] {
                continue;
            }
            let token = self.sampling.draw(&logits[..known], &mut self.rngs[row]);
            let token = token.ok_or(Error::NotFinite)? as i32;
            drawn[row] = token;
            self.ended[row] = token == self.limits.end;
            if !self.ended[row] {
                self.tokens[row].push(token);
            }
        }
        Ok(drawn)
    }

    fn all_ended(&self) -> bool {
        self.ended.iter().all(|ended| *ended)
    }
}
