//! The network: `embed → layers → norm → head`.
//!
//! Fields carry the names of Hugging Face's state dict.

use crate::config::LlamaConfig;
use crate::nn::{Cache, Context, Layer, RmsNorm, Rope, Rotation};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::{DType, TensorData};
use clip::Precision;
use clip::nn::init::Init;
use clip::nn::{Linear, linear, lookup};
use serde::{Deserialize, Serialize};

/// Added to the score of a key that must not be seen. Finite, so that no row can become NaN.
const MASKED: f32 = -1e9;

/// Which tokens a token sees, padding apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Itself and earlier ones, as in generation.
    Causal,
    /// All.
    Bidirectional,
}

/// A causal language model.
#[derive(Module, Debug)]
pub struct Llama<B: Backend> {
    /// Everything but the head.
    pub model: Decoder<B>,
    /// `[vocab, width]`; none where the embedding table serves as the head.
    pub lm_head: Option<Linear<B>>,
}

/// Token ids → hidden states. With a causal bias a generator, with any other an encoder.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// Table of token vectors.
    pub embed_tokens: Embedding<B>,
    /// Residual layers.
    pub layers: Vec<Layer<B>>,
    /// Norm after the layers.
    pub norm: RmsNorm<B>,
    #[module(skip)]
    rope: Rope,
    group: usize,
    #[module(skip)]
    compute: DType,
}

/// Token vectors by id.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[vocab, width]`.
    pub weight: Param<Tensor<B, 2>>,
}

fn hidden_if_not(visible: bool) -> f32 {
    if visible { 0.0 } else { MASKED }
}

impl LlamaConfig {
    /// A model with random weights that depend on `seed` alone.
    pub fn init<B: Backend>(
        &self,
        seed: u64,
        precision: Precision,
        device: &Device<B>,
    ) -> Llama<B> {
        self.build(Init::seeded(seed), precision, device)
    }

    pub(crate) fn build<B: Backend>(
        &self,
        mut init: Init,
        precision: Precision,
        device: &Device<B>,
    ) -> Llama<B> {
        let (vocab, width) = (self.vocab_size, self.hidden_size);
        let model = Decoder::build(self, &mut init, precision, device);
        let untied = !self.tie_word_embeddings;
        Llama {
            model,
            lm_head: untied.then(|| Linear {
                weight: init.normal([vocab, width], 0.02, device),
                bias: None,
            }),
        }
    }
}

impl<B: Backend> Decoder<B> {
    pub(crate) fn build(
        config: &LlamaConfig,
        init: &mut Init,
        precision: Precision,
        device: &Device<B>,
    ) -> Self {
        let width = config.hidden_size;
        Self {
            embed_tokens: Embedding {
                weight: init.normal([config.vocab_size, width], 0.02, device),
            },
            layers: (0..config.num_hidden_layers)
                .map(|_| Layer::new(config, init, device))
                .collect(),
            norm: RmsNorm::new(width, config.rms_norm_eps, init, device),
            rope: Rope::new(config),
            group: config.group(),
            compute: precision.compute(),
        }
    }

    /// Token vectors in the precision of the model; every layer follows it.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, seq, width]`
    pub fn embed(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [batch, seq] = ids.dims();
        let table = self.embed_tokens.weight.val();
        let width = table.dims()[1];
        let rows = lookup(table, ids.reshape([batch * seq]));
        rows.cast(self.compute).reshape([batch, seq, width])
    }

    /// Turns of the positions `start..start + len`.
    pub fn rotation(&self, start: usize, len: usize, device: &Device<B>) -> Rotation<B> {
        self.rope.rotation(start, len, device)
    }

    /// The bias that lets queries see only some keys, in the form that the layers want.
    ///
    /// # Shapes
    ///
    /// - visible: `[1 or batch, seq, keys]`, true where the query sees the key
    /// - output: `[1 or batch, 1, heads / kv_heads · seq, keys]`, f32
    pub fn bias(&self, visible: Tensor<B, 3, Bool>) -> Tensor<B, 4> {
        let hidden = visible.bool_not().float().cast(DType::F32) * MASKED;
        hidden.repeat_dim(1, self.group).unsqueeze_dim(1)
    }

    /// The bias of `seq` queries after `past` other positions, each of which sees no later position.
    ///
    /// None where there is nothing to hide: a single query sees all keys.
    pub fn causal_bias(&self, past: usize, seq: usize, device: &Device<B>) -> Option<Tensor<B, 4>> {
        if seq == 1 {
            return None;
        }
        let keys = past + seq;
        let row = |query: usize| (0..keys).map(move |key| key <= past + query);
        let visible: Vec<bool> = (0..seq).flat_map(row).collect();
        let visible = TensorData::new(visible, [1, seq, keys]);
        Some(self.bias(Tensor::from_data(visible, device)))
    }

    /// What the layers need for rows that are padded on the left: a padding key is seen by no real query, and every
    /// row's positions begin at 0 after its padding.
    ///
    /// # Shapes
    ///
    /// - lengths: tokens of each row without padding, each at most `seq`
    pub fn context(
        &self,
        visibility: Visibility,
        lengths: &[usize],
        seq: usize,
        device: &Device<B>,
    ) -> Context<B> {
        let rotation = self.rotation(0, seq, device);
        let rotation = rotation.left_padded(lengths, device);
        let padded = lengths.iter().any(|length| *length < seq);
        let real = |length: usize| move |key: usize| key + length >= seq;
        let bias = match visibility {
            Visibility::Causal if !padded => self.causal_bias(0, seq, device),
            Visibility::Bidirectional if !padded => None,
            Visibility::Causal => {
                let row = |real: &dyn Fn(usize) -> bool, query: usize| {
                    (0..seq)
                        .map(|key| key <= query && real(key))
                        .collect::<Vec<_>>()
                };
                let rows = lengths.iter();
                let visible = rows.flat_map(|len| (0..seq).flat_map(move |q| row(&real(*len), q)));
                let visible =
                    TensorData::new(visible.collect::<Vec<_>>(), [lengths.len(), seq, seq]);
                Some(self.bias(Tensor::from_data(visible, device)))
            }
            // One row of keys is enough, whatever the query.
            Visibility::Bidirectional => {
                let row = |length: &usize| (0..seq).map(real(*length)).map(hidden_if_not);
                let bias: Vec<f32> = lengths.iter().flat_map(row).collect();
                let bias = TensorData::new(bias, [lengths.len(), 1, 1, seq]);
                Some(Tensor::from_data(bias, (device, DType::F32)))
            }
        };
        Context::new(rotation, bias)
    }

    /// Hidden states after the final norm, of whole sequences that begin at position 0.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - bias: see [`Self::bias`]; none lets every query see every key
    /// - output: `[batch, seq, width]`
    pub fn forward(&self, ids: Tensor<B, 2, Int>, bias: Option<Tensor<B, 4>>) -> Tensor<B, 3> {
        let rotation = self.rotation(0, ids.dims()[1], &ids.device());
        self.run(ids, &Context::new(rotation, bias))
    }

    /// Hidden states after the final norm.
    ///
    /// The same as `embed`, every one of `layers` in turn, `norm`, which may also be called one by one.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, seq, width]`
    pub fn run(&self, ids: Tensor<B, 2, Int>, context: &Context<B>) -> Tensor<B, 3> {
        let layers = self.layers.iter();
        let x = layers.fold(self.embed(ids), |x, layer| layer.forward(x, context, None));
        self.norm.forward(x)
    }

    /// Hidden states after the final norm, of sequences whose earlier positions are in the cache. Causal.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`, the positions after those in the cache
    /// - output: `[batch, seq, width]`
    ///
    /// # Panics
    ///
    /// Panics if the cache is too short, or was filled by another number of rows.
    pub fn extend(&self, ids: Tensor<B, 2, Int>, cache: &mut Cache<B>) -> Tensor<B, 3> {
        let (device, seq, past) = (ids.device(), ids.dims()[1], cache.len);
        assert!(past + seq <= cache.capacity(), "the cache is full");
        let rotation = self.rotation(past, seq, &device);
        let context = Context::new(rotation, self.causal_bias(past, seq, &device));
        let mut x = self.embed(ids);
        for (layer, stored) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.forward(x, &context, Some((stored, past)));
        }
        cache.len += seq;
        self.norm.forward(x)
    }
}

impl<B: Backend> Llama<B> {
    /// An empty cache for sequences of up to `capacity` positions.
    pub fn cache(&self, capacity: usize) -> Cache<B> {
        Cache::new(self.model.layers.len(), capacity)
    }

    /// Logits of the next token.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, width]`, from the decoder
    /// - output: `[batch, seq, vocab]`, f32
    pub fn head(&self, hidden: Tensor<B, 3>) -> Tensor<B, 3> {
        linear(hidden, self.head_weight(), None).cast(DType::F32)
    }

    /// The matrix of the head, which may be the embedding table.
    ///
    /// # Shapes
    ///
    /// - output: `[vocab, width]`
    pub fn head_weight(&self) -> Tensor<B, 2> {
        match &self.lm_head {
            Some(head) => head.weight.val(),
            None => self.model.embed_tokens.weight.val(),
        }
    }

    /// Logits at every position of whole sequences.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, seq, vocab]`, f32
    pub fn forward(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let bias = self.model.causal_bias(0, ids.dims()[1], &ids.device());
        self.head(self.model.forward(ids, bias))
    }
}
