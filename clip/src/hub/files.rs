//! Which files of a model on the hub make a model directory.

use crate::checkpoint::{CONFIG, PREPROCESSOR, PROCESSOR, WEIGHT_FILES, read_shard_index};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// The configuration of a Hugging Face model and of its images.
pub(super) const HUGGING_FACE_CONFIG: &str = "config.json";

/// Read where they are there: preprocessing, tokenizers, and what goes beside the weights of CLIPS, of LLM2CLIP and of
/// language models.
const FURTHER_FILES: [&str; 14] = [
    PREPROCESSOR,
    PROCESSOR,
    "llm2clip.json",
    "llm2vec_config.json",
    "encoder.json",
    "captioner.json",
    "captioner.safetensors",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// Read where there is no `tokenizer.json`.
const OLDER_TOKENIZER: [&str; 2] = ["vocab.json", "merges.txt"];

/// Calls `get` for each file that a model directory needs, given the names of those there are: the configurations,
/// the tokenizer, and the weights that loading prefers, with all their shards.
///
/// # Errors
///
/// The first error of `get`, or what is lacking in `names`.
pub(super) fn gather<E: From<String>>(
    names: &BTreeSet<String>,
    mut get: impl FnMut(&str) -> Result<PathBuf, E>,
) -> Result<(), E> {
    if names.contains(CONFIG) {
        get(CONFIG)?;
    } else if names.contains(HUGGING_FACE_CONFIG) {
        get(HUGGING_FACE_CONFIG)?;
    } else {
        return Err(format!("neither {CONFIG} nor {HUGGING_FACE_CONFIG} is there").into());
    }
    let older = OLDER_TOKENIZER
        .iter()
        .filter(|_| !names.contains("tokenizer.json"));
    for name in FURTHER_FILES.iter().chain(older) {
        if names.contains(*name) {
            get(name)?;
        }
    }
    let weights = WEIGHT_FILES
        .iter()
        .find(|name| names.contains(**name))
        .ok_or_else(|| {
            format!(
                "no weights are there; looked for {}",
                WEIGHT_FILES.join(", ")
            )
        })?;
    let path = get(weights)?;
    if weights.ends_with(".index.json") {
        for shard in shards(&path)? {
            get(&shard)?;
        }
    }
    Ok(())
}

fn shards(index: &Path) -> Result<BTreeSet<String>, String> {
    let weight_map = read_shard_index(index).map_err(|error| error.to_string())?;
    let shards: BTreeSet<String> = weight_map.into_values().collect();
    // The index is another's data and must not lead out of the directory.
    let is_inside = |name: &String| {
        Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    match shards.iter().find(|name| !is_inside(name)) {
        Some(name) => Err(format!(
            "{}: `{name}` is no file beside the index",
            index.display()
        )),
        None => Ok(shards),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(names: &[&str], folder: &Path) -> Result<Vec<String>, String> {
        let mut asked = Vec::new();
        gather(
            &names.iter().map(|name| name.to_string()).collect(),
            |name| {
                asked.push(name.to_string());
                Ok::<_, String>(folder.join(name))
            },
        )
        .map(|()| asked)
    }

    #[test]
    fn only_the_preferred_weights_are_asked_for() {
        let names = [
            "README.md",
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let asked = gathered(&names, Path::new("")).unwrap();
        assert_eq!(
            asked,
            ["config.json", "tokenizer.json", "model.safetensors"]
        );
    }

    #[test]
    fn what_older_or_newer_directories_have_is_asked_for() {
        let old = [
            "config.json",
            "merges.txt",
            "model.safetensors",
            "vocab.json",
        ];
        let asked = gathered(&old, Path::new("")).unwrap();
        assert_eq!(
            asked,
            [
                "config.json",
                "vocab.json",
                "merges.txt",
                "model.safetensors"
            ]
        );
        let new = ["config.json", "model.safetensors", "processor_config.json"];
        let asked = gathered(&new, Path::new("")).unwrap();
        assert!(asked.contains(&"processor_config.json".to_string()));
        let both = [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "vocab.json",
        ];
        let asked = gathered(&both, Path::new("")).unwrap();
        assert!(!asked.contains(&"vocab.json".to_string()));
    }

    #[test]
    fn shards_are_asked_for_by_the_index_and_stay_in_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["open_clip_config.json", "model.safetensors.index.json"];
        let index = folder.path().join(names[1]);
        std::fs::write(
            &index,
            r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}"#,
        )
        .unwrap();
        let asked = gathered(&names, folder.path()).unwrap();
        assert_eq!(asked[2..], ["a.safetensors", "b.safetensors"]);
        std::fs::write(&index, r#"{"weight_map": {"x": "../../etc/passwd"}}"#).unwrap();
        assert!(
            gathered(&names, folder.path())
                .unwrap_err()
                .contains("../../etc/passwd")
        );
    }

    #[test]
    fn a_repository_without_weights_or_configuration_is_no_model() {
        assert!(
            gathered(&["README.md"], Path::new(""))
                .unwrap_err()
                .contains("config.json")
        );
        assert!(
            gathered(&["config.json"], Path::new(""))
                .unwrap_err()
                .contains("no weights")
        );
    }
}
