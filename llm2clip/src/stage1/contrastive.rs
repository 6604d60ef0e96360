//! Caption-contrastive tuning (SimCSE with hard negatives; `run_supervised.py` of the release).

use super::encoded::join_rows;
use super::triplets::Triplet;
use super::tuned::TunedEncoder;
use crate::loss::{SCALE, hard_negatives};
use burn::tensor::backend::AutodiffBackend;
use data::CollateError;
use llm::{Decoder, Dropout, EncoderOptions, Layer, LlamaConfig, LoraConfig, TextRows, Tokenizer};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use train::{BoxError, Embedded, Embeddings, Losses, Pass, Prepare, Section, Task};

/// The `[contrastive.method]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastiveOptions {
    /// Always `contrastive`.
    pub name: ContrastiveName,
    /// Factor on cosines, the inverse of a temperature; 50 in the release.
    #[serde(default = "scale")]
    pub scale: f64,
    /// What is trained.
    #[serde(default = "LoraConfig::llm2clip")]
    pub lora: LoraConfig,
    /// How a text becomes a vector. Absent: as the directory of the language model says, see
    /// [`Encoder::load`](llm::Encoder::load).
    pub encoder: Option<EncoderOptions>,
}

/// The name of this stage.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContrastiveName {
    /// Caption-contrastive tuning.
    Contrastive,
}

fn scale() -> f64 {
    SCALE
}

impl Section for ContrastiveOptions {
    const NAME: &'static str = "method";
}

/// Tokenized triplets.
#[derive(Clone, Debug, PartialEq)]
pub struct TripletBatch {
    /// All queries, then all positives, then all negatives.
    pub rows: TextRows,
    /// A seed for each row's dropout.
    pub seeds: Vec<u64>,
}

impl TripletBatch {
    /// Number of triplets.
    pub fn len(&self) -> usize {
        self.seeds.len() / 3
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Tokenizes triplets.
#[derive(Clone, Debug)]
pub struct TripletRows {
    /// Text → ids.
    pub tokenizer: Tokenizer,
    /// What is written around a text.
    pub options: EncoderOptions,
    /// Ids that the model has.
    pub vocab_size: usize,
}

impl Prepare<Triplet> for TripletRows {
    type Item = [(TextRows, u64); 3];
    type Batch = TripletBatch;

    /// # Errors
    ///
    /// For a text without tokens, and ids that the model does not have.
    fn item(&self, triplet: Triplet, rng: &mut ChaCha8Rng) -> Result<Self::Item, BoxError> {
        let instruction = match triplet.instruction.is_empty() {
            true => String::new(),
            false => format!("{}; ", triplet.instruction),
        };
        let mut row = |instruction: &str, text: &str| -> Result<_, BoxError> {
            let rows = self.options.rows(&self.tokenizer, [(instruction, text)])?;
            rows.check(self.vocab_size)?;
            Ok((rows, rng.random()))
        };
        Ok([
            row(&instruction, &triplet.query)?,
            row("", &triplet.positive)?,
            row("", &triplet.negative)?,
        ])
    }

    fn batch(&self, items: Vec<Self::Item>) -> Result<TripletBatch, CollateError> {
        let by_kind = (0..3).flat_map(|kind| items.iter().map(move |item| item[kind].clone()));
        let (rows, seeds): (Vec<TextRows>, Vec<u64>) = by_kind.unzip();
        Ok(TripletBatch {
            rows: join_rows(&rows),
            seeds,
        })
    }
}

/// Queries are to find their positives.
#[derive(Clone, Debug)]
pub struct Contrast {
    /// Factor on cosines.
    pub scale: f64,
    /// How a text becomes a vector.
    pub options: EncoderOptions,
    /// What is trained.
    pub lora: LoraConfig,
    /// Text → ids, for what is written.
    pub tokenizer: Tokenizer,
    /// Architecture of the language model.
    pub config: LlamaConfig,
    /// Where the language model lies.
    pub base: PathBuf,
}

impl<B: AutodiffBackend> Task<B> for Contrast {
    type Model = Decoder<B>;
    type Batch = TripletBatch;
    type Trained = TunedEncoder<B::InnerBackend>;

    /// Gives `query`, `positive` and `negative`.
    fn embed(
        &self,
        model: &Decoder<B>,
        batch: &TripletBatch,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError> {
        let (rows, device) = (&batch.rows, pass.device().clone());
        let seeds: Arc<[u64]> = batch.seeds.clone().into();
        let dropout = (self.lora.dropout > 0.0).then(|| Dropout::new(seeds));
        let context = self.options.context(model, rows, dropout, &device);
        let x = model.embed(rows.to_tensor(&device));
        let forward = move |layer: &Layer<B>, x| layer.forward(x, &context, None);
        let x = pass.blocks(&model.layers, x, forward);
        let vectors = self.options.pooling.pool(model.norm.forward(x), rows);
        let n = batch.len();
        let part = |at: usize| vectors.clone().narrow(0, at * n, n);
        let embedded = Embedded::default().with("query", part(0));
        Ok(embedded.with("positive", part(1)).with("negative", part(2)))
    }

    fn loss(&self, _: &Decoder<B>, mut embeddings: Embeddings<B>) -> Result<Losses<B>, BoxError> {
        let rows = embeddings.rows();
        let query = embeddings.one("query")?;
        let (positive, negative) = (embeddings.one("positive")?, embeddings.one("negative")?);
        Ok(hard_negatives(rows, query, positive, negative, self.scale).into())
    }

    fn by_rows(&self) -> bool {
        true
    }

    fn samples(&self, batch: &TripletBatch) -> usize {
        batch.len()
    }

    fn trained(&self, model: Decoder<B::InnerBackend>) -> TunedEncoder<B::InnerBackend> {
        TunedEncoder {
            encoder: llm::Encoder {
                model,
                tokenizer: self.tokenizer.clone(),
                config: self.config.clone(),
                options: self.options.clone(),
            },
            lora: self.lora.clone(),
            base: self.base.clone(),
        }
    }
}
