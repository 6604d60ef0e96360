//! Model directories → a model with its tokenizer.

mod encoder;
mod hugging_face;
mod layout;
mod meta;
mod peft;

pub(crate) use encoder::OPTIONS;
pub(crate) use hugging_face::WEIGHTS;
pub use peft::{Wrapped, adapter_base};

use crate::config::LlamaConfig;
use crate::encoder::{Encoder, EncoderOptions};
use crate::error::{Error, Result};
use crate::generate::{Completion, GenerateOptions, Prompt, generate};
use crate::model::Llama;
use crate::sampling::Sampling;
use crate::tokenizer::Tokenizer;
use burn::prelude::*;
use clip::Precision;
use clip::checkpoint::{StateDict, apply_as};
use clip::nn::init::Init;
use std::path::{Path, PathBuf};

/// How to load a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Dtype of the activations.
    pub precision: Precision,
    /// Dtype of the weights in memory. Where it is not that of the activations, weights are cast on every use.
    pub weights: Precision,
}

/// A language model with all that is needed to use it.
#[derive(Debug)]
pub struct Pretrained<B: Backend> {
    /// The network.
    pub model: Llama<B>,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
    /// Architecture.
    pub config: LlamaConfig,
    device: Device<B>,
}

/// What a directory holds, weights still on the host and under Hugging Face's names.
struct Contents {
    config: LlamaConfig,
    weights: StateDict,
    tokenizer: Tokenizer,
}

impl<B: Backend> Pretrained<B> {
    /// Loads a directory: Hugging Face's (`config.json`, safetensors in one file or in shards, `tokenizer.json` or
    /// `tokenizer.model`) or Meta's (`params.json`, `consolidated.*.pth`, `tokenizer.model`).
    ///
    /// # Errors
    ///
    /// Names the file that is missing or of another kind, and every tensor that is missing, left over or of
    /// another shape.
    pub fn load(directory: &Path, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        let Contents {
            config,
            weights,
            tokenizer,
        } = open(directory)?;
        let skeleton = config.build(Init::Zeros, options.precision, device);
        let dtype = options.weights.compute();
        let mut model = apply_as(skeleton, weights, directory, dtype, device)?;
        if options.weights == options.precision {
            model = layout::store_by_input(model);
        }
        Ok(Self::new(model, tokenizer, config, device))
    }

    /// A model that was made or trained here.
    pub fn new(
        model: Llama<B>,
        tokenizer: Tokenizer,
        config: LlamaConfig,
        device: &Device<B>,
    ) -> Self {
        Self {
            model,
            tokenizer,
            config,
            device: device.clone(),
        }
    }

    /// The model without its head, as an encoder.
    pub fn into_encoder(self, options: EncoderOptions) -> Encoder<B> {
        Encoder {
            model: self.model.model,
            tokenizer: self.tokenizer,
            config: self.config,
            options,
        }
    }

    /// Continues every text until the model ends it, one of the `stop` strings appears, or it is long enough.
    ///
    /// Each prompt comes with the seed of its draws. A completion may run past its stop string by what its last
    /// token holds.
    ///
    /// # Errors
    ///
    /// As [`generate`]; for a text that cannot be tokenized; and for one that could grow longer than any that the model was
    /// trained for, where its tokens would be noise.
    pub fn complete(
        &self,
        prompts: &[(String, u64)],
        sampling: Sampling,
        limits: Limits,
        stop: &[String],
    ) -> Result<Vec<Completion>> {
        let prompts = prompts
            .iter()
            .map(|(text, seed)| {
                let ids = self.tokenizer.encode(text)?;
                Ok(Prompt { ids, seed: *seed })
            })
            .collect::<Result<Vec<_>>>()?;
        self.check_lengths(&prompts, limits)?;
        let stopped = |ids: &[u32]| {
            let text = self.tokenizer.decode(ids);
            stop.iter().any(|stop| text.contains(stop))
        };
        let options = GenerateOptions {
            sampling,
            max_gen_len: limits.max_gen_len,
            max_seq_len: limits.max_seq_len,
            eos: &self.config.eos_token_id,
            stop: &stopped,
        };
        let generated = generate(&self.model, &prompts, &options, &self.device)?;
        let completion = |row: crate::Generated| Completion {
            text: self.tokenizer.decode(&row.ids),
            tokens: row.ids.len(),
            end: row.end,
        };
        Ok(generated.into_iter().map(completion).collect())
    }

    /// Refuses prompts that could grow longer than what the model was trained for.
    fn check_lengths(&self, prompts: &[Prompt], limits: Limits) -> Result<()> {
        let Some(longest) = self.config.longest_sequence() else {
            return Ok(());
        };
        for (i, Prompt { ids, .. }) in prompts.iter().enumerate() {
            let grown = ids.len().saturating_add(limits.max_gen_len);
            let most = limits.max_seq_len.min(grown);
            if most > longest {
                let reason = format!(
                    "prompt {i} has {} tokens and may grow to {most}, but the model was trained for sequences of up to \
                     {longest}: give {longest} or less",
                    ids.len()
                );
                return Err(Error::Option {
                    option: "max_seq_len",
                    reason,
                });
            }
        }
        Ok(())
    }
}

/// Lengths in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// New tokens at most.
    pub max_gen_len: usize,
    /// Tokens of a prompt and its continuation at most.
    pub max_seq_len: usize,
}

/// Whose layout a directory has, with the file that describes the architecture.
enum Files {
    HuggingFace(PathBuf),
    Meta(PathBuf),
}

fn open(directory: &Path) -> Result<Contents> {
    let directory = &local(directory)?;
    match files(directory)? {
        Files::HuggingFace(config) => hugging_face::open(directory, &config),
        Files::Meta(params) => meta::open(directory, &params),
    }
}

/// The directory itself, or where the files of `hf-hub:ORG/NAME` lie.
pub(crate) fn local(directory: &Path) -> Result<PathBuf> {
    Ok(clip::local_directory(&directory.to_string_lossy())?)
}

fn files(directory: &Path) -> Result<Files> {
    if !directory.exists() {
        return Err(Error::format(directory, "no such directory"));
    }
    if !directory.is_dir() {
        return Err(Error::format(
            directory,
            "a file; name the directory that holds the model",
        ));
    }
    let (theirs, metas) = (directory.join("config.json"), directory.join("params.json"));
    if theirs.is_file() {
        Ok(Files::HuggingFace(theirs))
    } else if metas.is_file() {
        Ok(Files::Meta(metas))
    } else {
        Err(Error::format(
            directory,
            "neither config.json (Hugging Face) nor params.json (Meta): not a language model",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RopeScaling;
    use burn_flex::Flex;

    fn pretrained(longest: Option<usize>) -> Pretrained<Flex> {
        let (tokenizer, device) = (Tokenizer::train(&["a b"], 300).unwrap(), Default::default());
        let config = LlamaConfig {
            hidden_size: 8,
            intermediate_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 4,
            max_position_embeddings: longest,
            ..LlamaConfig::tiny(tokenizer.vocab_size())
        };
        let model = config.init(0, Precision::F32, &device);
        Pretrained::new(model, tokenizer, config, &device)
    }

    #[test]
    fn no_text_grows_longer_than_the_model_was_trained_for() {
        let complete = |model: &Pretrained<Flex>, max_gen_len, max_seq_len| {
            let limits = Limits {
                max_gen_len,
                max_seq_len,
            };
            let prompts = [("a b".to_string(), 0)]; // four ids, that of the beginning among them
            model.complete(&prompts, Sampling::GREEDY, limits, &[])
        };
        let mut model = pretrained(Some(12));
        assert_eq!(model.tokenizer.encode("a b").unwrap().len(), 4);
        assert!(complete(&model, 8, 100).is_ok());
        assert!(complete(&model, 100, 12).is_ok());
        let error = complete(&model, 9, 100).unwrap_err();
        let (option, reason) = error.option().unwrap();
        assert_eq!(option, "max_seq_len");
        for said in ["prompt 0 has 4 tokens", "grow to 13", "up to 12"] {
            assert!(reason.contains(said), "no `{said}` in: {reason}");
        }
        model.config.rope_scaling = RopeScaling::Linear { factor: 2.0 };
        assert!(complete(&model, 20, 100).is_ok());
        assert!(complete(&model, 21, 100).is_err());
        assert!(complete(&pretrained(None), 21, 100).is_ok());
    }
}
