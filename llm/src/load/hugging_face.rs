//! Hugging Face's `LlamaForCausalLM` directories.

use super::Contents;
use crate::config::{LlamaConfig, OneOrMore};
use crate::error::{Error, Result};
use crate::json::read_json;
use crate::tokenizer::Tokenizer;
use clip::checkpoint::{StateDict, read_state_dict};
use std::path::{Path, PathBuf};

/// In order of preference.
pub(crate) const WEIGHTS: [&str; 4] = [
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// A model with a head.
pub(super) fn open(directory: &Path, config_path: &Path) -> Result<Contents> {
    let (mut contents, path) = read(directory, config_path)?;
    if contents.weights.get("embed_tokens.weight").is_some() {
        return Err(Error::format(
            &path,
            "the weights of an encoder, without a head to generate text: load it as one (Encoder::load)",
        ));
    }
    contents.weights = check_head(contents.weights, &contents.config, &path)?;
    Ok(contents)
}

/// A model with or without a head, which is dropped, under names without `model.`.
pub(super) fn open_encoder(directory: &Path, config_path: &Path) -> Result<Contents> {
    let (mut contents, _) = read(directory, config_path)?;
    contents.weights = without_head(contents.weights);
    Ok(contents)
}

pub(super) fn without_head(dict: StateDict) -> StateDict {
    let bare = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_string();
    dict.rename(|name| (name != HEAD).then(|| bare(name)))
}

/// All but the treatment of the head, with the file of the weights.
fn read(directory: &Path, config_path: &Path) -> Result<(Contents, PathBuf)> {
    let json = read_json(config_path)?;
    let mut config = LlamaConfig::from_hugging_face(&json)
        .map_err(|problem| Error::format(config_path, problem))?;
    let path = weights(directory)?;
    // Old files store these besides weights.
    let keep = |name: &str| (!name.ends_with("rotary_emb.inv_freq")).then(|| name.to_string());
    let weights = read_state_dict(&path)?.rename(keep);
    let tokenizer = Tokenizer::from_directory(directory, config.bos_token_id)?;
    // What ends a text in generation may be more than what the architecture says.
    let generation = directory.join("generation_config.json");
    if generation.is_file()
        && let Some(ids) = read_json(&generation)?.get("eos_token_id")
        && let Ok(ids) = serde_json::from_value::<OneOrMore>(ids.clone())
    {
        config.eos_token_id = ids.into();
    }
    if config.eos_token_id.is_empty() {
        config.eos_token_id.extend(tokenizer.eos());
    }
    let contents = Contents {
        config,
        weights,
        tokenizer,
    };
    Ok((contents, path))
}

fn weights(directory: &Path) -> Result<PathBuf> {
    let files = WEIGHTS.map(|name| directory.join(name));
    let found = files.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::format(
            directory,
            format!("no weights: none of {} is here", WEIGHTS.join(", ")),
        )
    })
}

/// Drops a head that is the embedding table once more.
fn check_head(mut dict: StateDict, config: &LlamaConfig, path: &Path) -> Result<StateDict> {
    if !config.tie_word_embeddings {
        return Ok(dict);
    }
    if let Some(head) = dict.remove(HEAD) {
        let same = dict
            .get(EMBEDDING)
            .is_none_or(|table| table.shape() == head.shape() && table.values() == head.values());
        if !same {
            return Err(Error::format(
                path,
                format!(
                    "`tie_word_embeddings` is true, but `{HEAD}` differs from `{EMBEDDING}`; \
                     correct config.json or remove the tensor"
                ),
            ));
        }
    }
    Ok(dict)
}
