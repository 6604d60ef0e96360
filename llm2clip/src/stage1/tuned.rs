//! What stage 1 leaves: adapters in PEFT's layout, and whole language models.

use burn::prelude::*;
use clip::Precision;
use llm::{Encoder, Llama, LlamaConfig, LoraConfig, Pretrained, SaveOptions, Tokenizer, Wrapped};
use std::path::{Path, PathBuf};
use train::{BoxError, Stored, Trained};

/// A language model of which every weight was trained.
#[derive(Clone, Debug)]
pub struct WholeLlama<B: Backend> {
    /// The network.
    pub model: Llama<B>,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
    /// Architecture.
    pub config: LlamaConfig,
}

impl<B: Backend> WholeLlama<B> {
    /// Writes a directory in Hugging Face's layout.
    ///
    /// # Errors
    ///
    /// Those of [`Pretrained::save`].
    pub fn save(self, directory: &Path, weights: Precision) -> llm::Result<()> {
        let device = self.model.model.norm.weight.val().device();
        let options = SaveOptions {
            weights,
            ..SaveOptions::default()
        };
        Pretrained::new(self.model, self.tokenizer, self.config, &device).save(directory, &options)
    }
}

impl<B: Backend> Trained for WholeLlama<B> {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        Ok(self.clone().save(dir, Precision::F32)?)
    }
}

/// A language model with its head, of which LoRA was trained.
#[derive(Clone, Debug)]
pub struct TunedLlama<B: Backend> {
    /// The network with LoRA.
    pub whole: WholeLlama<B>,
    /// What was trained.
    pub lora: LoraConfig,
    /// Where the language model lies that was tuned.
    pub base: PathBuf,
}

impl<B: Backend> TunedLlama<B> {
    /// The language model with the changes in its weights.
    pub fn merged(self) -> WholeLlama<B> {
        WholeLlama {
            model: self.whole.model.merge_lora(),
            ..self.whole
        }
    }
}

impl<B: Backend> Trained for TunedLlama<B> {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        let base = self.base.display().to_string();
        let decoder = &self.whole.model.model;
        Ok(decoder.write_adapter(dir, &self.lora, &base, Wrapped::CausalLm)?)
    }

    fn stored(&self, path: &str) -> Option<Stored> {
        stored(path.strip_prefix("model.")?, "base_model.model.model.")
    }
}

/// An encoder of which LoRA was trained.
#[derive(Clone, Debug)]
pub struct TunedEncoder<B: Backend> {
    /// The encoder, its network with LoRA.
    pub encoder: Encoder<B>,
    /// What was trained.
    pub lora: LoraConfig,
    /// Where the language model lies that was tuned.
    pub base: PathBuf,
}

impl<B: Backend> TunedEncoder<B> {
    /// The encoder with the changes in its weights.
    pub fn merged(self) -> Encoder<B> {
        Encoder {
            model: self.encoder.model.merge_lora(),
            ..self.encoder
        }
    }
}

impl<B: Backend> Trained for TunedEncoder<B> {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        let base = self.base.display().to_string();
        let decoder = &self.encoder.model;
        Ok(decoder.write_adapter(dir, &self.lora, &base, Wrapped::Decoder)?)
    }

    fn stored(&self, path: &str) -> Option<Stored> {
        stored(path, "base_model.model.")
    }
}

/// `layers.0.mlp.up_proj.lora.lora_a` → where the adapter's file has it.
fn stored(path: &str, prefix: &str) -> Option<Stored> {
    let (layer, matrix) = path.rsplit_once(".lora.")?;
    let letter = match matrix {
        "lora_a" => "A",
        "lora_b" => "B",
        _ => return None,
    };
    Some(Stored {
        file: "adapter_model.safetensors".into(),
        tensor: format!("{prefix}{layer}.lora_{letter}.weight"),
    })
}
