//! Models of the Hugging Face hub.

use crate::checkpoint::CONFIG;
use crate::error::{Error, Result};
use std::path::PathBuf;

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod files;
#[cfg(feature = "hub")]
mod name;
#[cfg(feature = "hub")]
mod remote;

/// A directory with one of these is a model: of open_clip, Hugging Face, LLM2CLIP, Meta's Llama.
const CONFIGS: [&str; 4] = [CONFIG, "config.json", "llm2clip.json", "params.json"];

/// Where the files of a model lie: those of `hf-hub:ORG/NAME` are downloaded into the cache, `local-dir:PATH` and any other
/// name are paths. The folder of a run or of a checkpoint, no model itself, stands for the `model/` in it.
///
/// # Errors
///
/// Names the model, the file or the endpoint that is missing, and the remedy.
pub fn local_directory(model: &str) -> Result<PathBuf> {
    match model.strip_prefix("hf-hub:") {
        Some(name) => download(name),
        None => {
            let path = PathBuf::from(model.strip_prefix("local-dir:").unwrap_or(model));
            let of_run = path.join("model");
            let is_model = CONFIGS.iter().any(|name| path.join(name).is_file());
            Ok(match of_run.is_dir() && !is_model {
                true => of_run,
                false => path,
            })
        }
    }
}

/// The local directory of the hub model `ORG/NAME[@REVISION]`, in the cache that Python's `huggingface_hub` uses too.
///
/// Asks the hub for the newest commit of the revision and downloads what is missing of it; if the hub cannot be
/// reached, what is cached is used. A revision that is a commit never changes: once cached, nothing is asked.
///
/// Environment, as in Python: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`.
///
/// # Errors
///
/// Names the model, the file or the endpoint that is missing, and the remedy.
#[cfg(feature = "hub")]
pub(crate) fn download(name: &str) -> Result<PathBuf> {
    let explain = |problem: String| Error::Hub {
        name: name.to_string(),
        problem,
    };
    let model = name::ModelName::parse(name).map_err(explain)?;
    let cache = cache::ModelCache::new(&model);
    if is_offline() {
        return cache.complete().map_err(|problem| {
            explain(format!(
                "{problem}, and HF_HUB_OFFLINE forbids to download it; unset HF_HUB_OFFLINE, \
                 or point HF_HOME to a cache that has the model"
            ))
        });
    }
    if model.names_a_commit()
        && let Ok(path) = cache.complete()
    {
        return Ok(path);
    }
    remote::download(&model, &cache).or_else(|failure| match failure.hub_is_down {
        true => cache
            .complete()
            .map_err(|problem| explain(format!("{}; {problem}", failure.problem))),
        false => Err(explain(failure.problem)),
    })
}

/// See the other definition; this build has no client of the hub.
#[cfg(not(feature = "hub"))]
pub(crate) fn download(name: &str) -> Result<PathBuf> {
    Err(Error::Hub {
        name: name.to_string(),
        problem: "this build cannot reach the hub; build with `--features hub`".to_string(),
    })
}

/// The values that `huggingface_hub` takes for true.
#[cfg(feature = "hub")]
fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| {
        ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
    })
}
