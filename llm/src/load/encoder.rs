//! Directories → an [`Encoder`].

use super::peft::adapter_base;
use super::{LoadOptions, hugging_face, layout, meta};
use crate::encoder::{Encoder, EncoderOptions, Pooling, Template};
use crate::error::{Error, Result};
use crate::json::read_json;
use crate::model::Decoder;
use crate::tokenizer::Tokenizer;
use burn::prelude::*;
use clip::checkpoint::apply_as;
use clip::nn::init::Init;
use serde::Deserialize;
use std::path::Path;

/// How texts become vectors, in directories that this crate wrote.
pub(crate) const OPTIONS: &str = "encoder.json";

/// The same in directories that LLM2Vec wrote.
const LLM2VEC: &str = "llm2vec_config.json";

#[derive(Deserialize)]
struct Llm2Vec {
    pooling_mode: Pooling,
    max_length: usize,
    /// Texts above it are shortened word by word before they are tokenized.
    doc_max_length: Option<usize>,
    #[serde(default = "yes")]
    skip_instruction: bool,
}

fn yes() -> bool {
    true
}

impl<B: Backend> Encoder<B> {
    /// Loads a directory of a language model as an encoder: a released one without a head, or any other, whose head is
    /// left aside. Names of tensors may begin with `model.` or not.
    ///
    /// Without `options`, those of `encoder.json` in the directory are taken. Where there is none, the model is taken for
    /// one of LLM2Vec's or LLM2CLIP's: pooling and length come from `llm2vec_config.json` if it is there, else mean and
    /// 512; the template is that of Llama 3 if the tokenizer has its tokens.
    ///
    /// A directory of a PEFT adapter is loaded with the model that its `adapter_config.json` names as its base
    /// ([`adapter_base`](crate::adapter_base)), and merged into it; options in it go before those of the base.
    ///
    /// # Errors
    ///
    /// As [`Pretrained::load`](crate::Pretrained::load) and [`Decoder::with_adapter`]; and if nothing says what the template is: its presence changes
    /// every vector.
    pub fn load(
        directory: &Path,
        options: Option<EncoderOptions>,
        load: &LoadOptions,
        device: &Device<B>,
    ) -> Result<Self> {
        let directory = &super::local(directory)?;
        if let Some(base) = adapter_base(directory)? {
            let options = match options {
                None if own_options(directory) => Some(EncoderOptions::of_directory(directory)?),
                given => given,
            };
            let encoder = Self::load(&base, options, load, device)?;
            let (model, _) = encoder.model.with_adapter(directory, device)?;
            let model = model.merge_lora();
            return Ok(Self { model, ..encoder });
        }
        let contents = match super::files(directory)? {
            super::Files::HuggingFace(config) => hugging_face::open_encoder(directory, &config)?,
            super::Files::Meta(params) => {
                let mut contents = meta::open(directory, &params)?;
                contents.weights = hugging_face::without_head(contents.weights);
                contents
            }
        };
        let options = match options {
            Some(options) => options,
            None => find_options(directory, &contents.tokenizer)?,
        };
        options.check()?;
        let longest = contents.config.longest_sequence();
        if let Some(longest) = longest.filter(|longest| *longest < options.max_length) {
            return Err(Error::format(
                directory,
                format!(
                    "max_length is {}, but the model was trained for sequences of up to {longest}",
                    options.max_length
                ),
            ));
        }
        let skeleton = Decoder::build(&contents.config, &mut Init::Zeros, load.precision, device);
        let dtype = load.weights.compute();
        let mut model = apply_as(skeleton, contents.weights, directory, dtype, device)?;
        if load.weights == load.precision {
            model = layout::store_by_input(model);
        }
        Ok(Self {
            model,
            tokenizer: contents.tokenizer,
            config: contents.config,
            options,
        })
    }
}

impl EncoderOptions {
    /// What [`Encoder::load`] finds in a directory when it is given no options; reads no weights.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn of_directory(directory: &Path) -> Result<Self> {
        let directory = &super::local(directory)?;
        let tokenizer = match adapter_base(directory)? {
            Some(base) if !own_options(directory) => return Self::of_directory(&base),
            Some(base) => super::local(&base)?,
            None => {
                super::files(directory)?;
                directory.clone()
            }
        };
        find_options(directory, &Tokenizer::from_directory(&tokenizer, None)?)
    }
}

/// Whether a directory says itself how texts become vectors.
fn own_options(directory: &Path) -> bool {
    [OPTIONS, LLM2VEC]
        .iter()
        .any(|name| directory.join(name).is_file())
}

fn find_options(directory: &Path, tokenizer: &Tokenizer) -> Result<EncoderOptions> {
    let ours = directory.join(OPTIONS);
    if ours.is_file() {
        return serde_json::from_value(read_json(&ours)?)
            .map_err(|error| Error::format(&ours, error.to_string()));
    }
    let of_llama3 = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];
    if of_llama3
        .iter()
        .any(|name| tokenizer.special(name).is_none())
    {
        return Err(Error::format(
            directory,
            format!(
                "no {OPTIONS}, and the tokenizer has no Llama 3 chat tokens: \
                 say which template is written around a text"
            ),
        ));
    }
    let mut options = EncoderOptions::llm2vec(Template::llama3());
    let theirs = directory.join(LLM2VEC);
    if theirs.is_file() {
        let fields: Llm2Vec = serde_json::from_value(read_json(&theirs)?)
            .map_err(|error| Error::format(&theirs, error.to_string()))?;
        if !fields.skip_instruction {
            return Err(Error::format(
                &theirs,
                "`skip_instruction` is false: pooling over the template is not supported",
            ));
        }
        if let Some(longest) = fields
            .doc_max_length
            .filter(|longest| *longest < fields.max_length)
        {
            return Err(Error::format(
                &theirs,
                format!(
                    "`doc_max_length` {longest} is below `max_length` {}: LLM2Vec shortens longer texts by words, \
                     which is not supported; give the options yourself",
                    fields.max_length
                ),
            ));
        }
        options.pooling = fields.pooling_mode;
        options.max_length = fields.max_length;
    }
    Ok(options)
}
