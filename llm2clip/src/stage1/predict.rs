//! Prediction of tokens: language modelling from scratch, and masked next-token prediction (`run_mntp.py` of the release).

use super::blocks::Block;
use super::tuned::{TunedLlama, WholeLlama};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use data::CollateError;
use llm::lm::{Masking, Predictions, cross_entropy};
use llm::{Dropout, Layer, Llama, LlamaConfig, LoraConfig, Tokenizer, Visibility};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::path::PathBuf;
use train::{
    BoxError, Embedded, Embeddings, Losses, MeanLoss, Pass, Prepare, Section, Task, Trained,
};

/// Bytes of logits at a time.
const LOGITS: usize = 64 << 20;

/// The `[lm.method]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LmOptions {
    /// Always `lm`.
    pub name: LmName,
    /// Tokens in a row.
    pub block: usize,
}

/// The name of this stage.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LmName {
    /// Language modelling.
    Lm,
}

impl Section for LmOptions {
    const NAME: &'static str = "method";
}

/// The `[mntp.method]` table. The defaults are the release's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MntpOptions {
    /// Always `mntp`.
    pub name: MntpName,
    /// Tokens in a row.
    #[serde(default = "block")]
    pub block: usize,
    /// What is trained.
    #[serde(default = "LoraConfig::llm2clip")]
    pub lora: LoraConfig,
    /// Share of the tokens that are to be predicted. Of these, 80 % become `_` and 10 % a random token.
    #[serde(default = "share")]
    pub share: f64,
}

/// The name of this stage.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MntpName {
    /// Masked next-token prediction.
    Mntp,
}

impl Section for MntpOptions {
    const NAME: &'static str = "method";
}

fn block() -> usize {
    512
}

fn share() -> f64 {
    0.2
}

/// What is predicted.
#[derive(Clone, Debug)]
pub enum Objective {
    /// Every token but those that begin a text, from the tokens before it.
    Next {
        /// The token that begins a text.
        bos: Option<u32>,
    },
    /// Hidden tokens, from all others; anew at every visit.
    Masked(Masking),
}

/// Rows of tokens with what is to be predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockBatch {
    /// What the model sees, row by row.
    pub ids: Vec<u32>,
    /// Tokens in a row.
    pub seq: usize,
    /// What is predicted where, row by row.
    pub labels: Vec<Option<u32>>,
    /// A seed for each row's dropout.
    pub seeds: Vec<u64>,
}

/// Draws what is predicted.
#[derive(Clone, Debug)]
pub struct PredictionRows(pub Objective);

impl Prepare<Block> for PredictionRows {
    type Item = (Vec<u32>, Vec<Option<u32>>, u64);
    type Batch = BlockBatch;

    fn item(&self, block: Block, rng: &mut ChaCha8Rng) -> Result<Self::Item, BoxError> {
        let (masks, seed) = (rng.random(), rng.random());
        Ok(match &self.0 {
            Objective::Next { bos } => {
                let label = |id: &u32| (Some(*id) != *bos).then_some(*id);
                let labels = block.ids.iter().map(label).collect();
                (block.ids, labels, seed)
            }
            Objective::Masked(masking) => {
                let masked = masking.draw(&block.ids, masks);
                (masked.ids, masked.labels, seed)
            }
        })
    }

    fn batch(&self, items: Vec<Self::Item>) -> Result<BlockBatch, CollateError> {
        let seq = items.first().map_or(0, |(ids, ..)| ids.len());
        Ok(BlockBatch {
            seq,
            ids: items.iter().flat_map(|(ids, ..)| ids.clone()).collect(),
            labels: items
                .iter()
                .flat_map(|(_, labels, _)| labels.clone())
                .collect(),
            seeds: items.iter().map(|(.., seed)| *seed).collect(),
        })
    }
}

/// Tokens are to be predicted. `T` is what comes out: a [`WholeLlama`] or a [`TunedLlama`].
#[derive(Clone, Debug)]
pub struct Predict<T> {
    /// Which tokens a token sees.
    pub visibility: Visibility,
    /// What is trained; none: all.
    pub lora: Option<LoraConfig>,
    /// Text → ids, for what is written.
    pub tokenizer: Tokenizer,
    /// Architecture of the language model.
    pub config: LlamaConfig,
    /// Where the language model lies that is tuned.
    pub base: PathBuf,
    out: PhantomData<fn() -> T>,
}

impl<T> Predict<T> {
    /// The task for a model of this kind.
    pub fn new(
        visibility: Visibility,
        lora: Option<LoraConfig>,
        tokenizer: Tokenizer,
        config: LlamaConfig,
        base: PathBuf,
    ) -> Self {
        Self {
            visibility,
            lora,
            tokenizer,
            config,
            base,
            out: PhantomData,
        }
    }
}

/// What a [`Predict`] leaves.
pub trait FromLlama<B: Backend>: Trained {
    /// Around the trained network.
    fn from_llama<T>(model: Llama<B>, task: &Predict<T>) -> Self;
}

impl<B: Backend> FromLlama<B> for WholeLlama<B> {
    fn from_llama<T>(model: Llama<B>, task: &Predict<T>) -> Self {
        Self {
            model,
            tokenizer: task.tokenizer.clone(),
            config: task.config.clone(),
        }
    }
}

impl<B: Backend> FromLlama<B> for TunedLlama<B> {
    fn from_llama<T>(model: Llama<B>, task: &Predict<T>) -> Self {
        Self {
            whole: WholeLlama::from_llama(model, task),
            lora: task.lora.clone().unwrap_or_else(LoraConfig::llm2clip),
            base: task.base.clone(),
        }
    }
}

impl<B: AutodiffBackend, T: FromLlama<B::InnerBackend>> Task<B> for Predict<T> {
    type Model = Llama<B>;
    type Batch = BlockBatch;
    type Trained = T;

    /// Gives the mean `tokens`.
    fn embed(
        &self,
        model: &Llama<B>,
        batch: &BlockBatch,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError> {
        let (rows, device) = (batch.seeds.len(), pass.device().clone());
        let decoder = &model.model;
        let dropped = self.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0);
        let dropout = dropped.then(|| Dropout::new(batch.seeds.clone()));
        let context = decoder.context(self.visibility, &vec![batch.seq; rows], batch.seq, &device);
        let context = context.with_dropout(dropout);
        let ids: Vec<i32> = batch.ids.iter().map(|id| *id as i32).collect();
        let ids = Tensor::from_data(TensorData::new(ids, [rows, batch.seq]), &device);
        let forward = move |layer: &Layer<B>, x| layer.forward(x, &context, None);
        let x = pass.blocks(&decoder.layers, decoder.embed(ids), forward);
        let predictions = Predictions::new(&batch.labels, batch.seq);
        let hidden = decoder.norm.forward(x);
        let mean = cross_entropy(hidden, model.head_weight(), &predictions, LOGITS);
        let count = predictions.len();
        Ok(Embedded::default().with_mean(MeanLoss {
            name: "tokens",
            sum: mean * count as f64,
            count,
            weight: 1.0,
        }))
    }

    fn loss(&self, _: &Llama<B>, _: Embeddings<B>) -> Result<Losses<B>, BoxError> {
        Err("there are no embeddings to compare".into())
    }

    fn samples(&self, batch: &BlockBatch) -> usize {
        batch.seeds.len()
    }

    fn trained(&self, model: Llama<B::InnerBackend>) -> T {
        T::from_llama(model, self)
    }
}
