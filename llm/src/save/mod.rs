//! A model with its tokenizer → a directory in Hugging Face's layout.

mod weights;

use crate::config::LlamaConfig;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::load::{OPTIONS, Pretrained, WEIGHTS};
use crate::tokenizer::Tokenizer;
use burn::prelude::*;
use clip::Precision;
use clip::checkpoint::write_whole;
use serde_json::{Value, json};
use std::path::Path;

/// How to write a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveOptions {
    /// Dtype of the weights in the file.
    pub weights: Precision,
    /// Bytes of one file of weights at most, if it holds more than one tensor.
    pub shard_bytes: usize,
}

impl Default for SaveOptions {
    /// f32 in files of 5 GB, transformers' size.
    fn default() -> Self {
        Self {
            weights: Precision::F32,
            shard_bytes: 5_000_000_000,
        }
    }
}

impl<B: Backend> Pretrained<B> {
    /// Writes a directory that [`Self::load`] and transformers' `LlamaForCausalLM` read.
    ///
    /// # Errors
    ///
    /// Names the file that could not be written. Refuses a directory that holds a model, and a model with LoRA.
    pub fn save(&self, directory: &Path, options: &SaveOptions) -> Result<()> {
        self.model.model.refuse_lora()?;
        let architecture = "LlamaForCausalLM";
        let write = || {
            weights::write(
                &self.model,
                directory,
                options.weights.compute(),
                options.shard_bytes,
            )
        };
        save(
            directory,
            options,
            architecture,
            &self.config,
            &self.tokenizer,
            write,
        )
    }
}

impl<B: Backend> Encoder<B> {
    /// Writes a directory that [`Self::load`] and transformers' `LlamaModel` read; the latter attends causally if it is
    /// not told otherwise. `encoder.json` says how a text becomes a vector.
    ///
    /// # Errors
    ///
    /// Names the file that could not be written. Refuses a directory that holds a model, and a model with LoRA.
    pub fn save(&self, directory: &Path, options: &SaveOptions) -> Result<()> {
        self.model.refuse_lora()?;
        let write = || {
            weights::write(
                &self.model,
                directory,
                options.weights.compute(),
                options.shard_bytes,
            )?;
            let encoder = serde_json::to_value(&self.options).expect("plain fields");
            write_json(&directory.join(OPTIONS), &encoder)
        };
        save(
            directory,
            options,
            "LlamaModel",
            &self.config,
            &self.tokenizer,
            write,
        )
    }
}

/// `config.json` comes last: a directory without one is no model.
fn save(
    directory: &Path,
    options: &SaveOptions,
    architecture: &str,
    config: &LlamaConfig,
    tokenizer: &Tokenizer,
    write_weights: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let taken = WEIGHTS.iter().chain(&["config.json", OPTIONS]);
    for name in taken {
        if directory.join(name).exists() {
            return Err(Error::format(
                directory,
                format!("there is a model already ({name}): name another directory, or remove it"),
            ));
        }
    }
    std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    tokenizer.save(directory)?;
    write_weights()?;
    let mut fields = config.to_hugging_face();
    fields["architectures"] = json!([architecture]);
    fields["torch_dtype"] = json!(match options.weights {
        Precision::F32 => "float32",
        Precision::Bf16 => "bfloat16",
    });
    write_json(&directory.join("config.json"), &fields)
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_whole(path, format!("{value:#}\n").as_bytes())?;
    Ok(())
}
