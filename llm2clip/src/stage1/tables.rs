//! The `[model]` tables of the stages.

use clip::Precision;
use llm::{LlamaConfig, LoadOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use train::{Result, Section, TrainError};

/// The `[lm.model]` table: sizes of a Llama with byte-pair tokens that are learned from the texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LmTable {
    /// Tokens at most.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width inside the MLPs.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of the queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values.
    pub num_key_value_heads: usize,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// f32 or bf16: dtype of the activations.
    pub precision: String,
}

impl Default for LmTable {
    /// [`LlamaConfig::tiny`] with 2048 tokens.
    fn default() -> Self {
        let tiny = LlamaConfig::tiny(2048);
        Self {
            vocab_size: tiny.vocab_size,
            hidden_size: tiny.hidden_size,
            intermediate_size: tiny.intermediate_size,
            num_hidden_layers: tiny.num_hidden_layers,
            num_attention_heads: tiny.num_attention_heads,
            num_key_value_heads: tiny.num_key_value_heads,
            max_position_embeddings: tiny.max_position_embeddings.unwrap_or(512),
            precision: Precision::F32.to_string(),
        }
    }
}

impl Section for LmTable {
    const NAME: &'static str = "model";
}

/// The `[mntp.model]` and `[contrastive.model]` tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmTable {
    /// Directory of the language model to start from.
    pub llm: PathBuf,
    /// f32 or bf16: dtype of the activations.
    #[serde(default = "f32")]
    pub precision: String,
    /// f32 or bf16: dtype of the frozen weights, in memory and where the tuned model is written. Absent: the precision.
    pub weights: Option<String>,
}

fn f32() -> String {
    Precision::F32.to_string()
}

impl Section for LlmTable {
    const NAME: &'static str = "model";

    fn resolve(&mut self, folder: &Path) {
        self.llm = folder.join(&self.llm);
    }
}

pub(super) fn precision(field: &str, value: &str) -> Result<Precision> {
    let parsed = value.parse();
    parsed.map_err(|error| TrainError::Config(format!("model.{field}: {error}")))
}

impl LlmTable {
    /// How to load it.
    pub(super) fn load(&self) -> Result<LoadOptions> {
        let compute = precision("precision", &self.precision)?;
        let weights = self
            .weights
            .as_deref()
            .map(|w| precision("weights", w))
            .transpose()?;
        Ok(LoadOptions {
            precision: compute,
            weights: weights.unwrap_or(compute),
        })
    }
}
