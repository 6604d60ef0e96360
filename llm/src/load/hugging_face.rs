//! Hugging Face's `LlamaForCausalLM` directories.

use super::{Contents, read_json};
use crate::config::{LlamaConfig, OneOrMore};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use clip::checkpoint::{StateDict, read_state_dict};
use std::path::{Path, PathBuf};

/// In order of preference.
const WEIGHTS: [&str; 4] = [
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

pub(super) fn open(directory: &Path, config_path: &Path) -> Result<Contents> {
    let json = read_json(config_path)?;
    let mut config = LlamaConfig::from_hugging_face(&json)
        .map_err(|problem| Error::format(config_path, problem))?;
    let weights = weights(directory)?;
    let dict = normalize(read_state_dict(&weights)?, &config, &weights)?;
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
    Ok(Contents {
        config,
        weights: dict,
        tokenizer,
    })
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

/// Drops what old files store besides weights, and a head that is the embedding table once more.
fn normalize(dict: StateDict, config: &LlamaConfig, path: &Path) -> Result<StateDict> {
    let keep = |name: &str| (!name.ends_with("rotary_emb.inv_freq")).then(|| name.to_string());
    let mut dict = dict.rename(keep);
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
