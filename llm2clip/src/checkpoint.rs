//! Model directories, our own and the released ones.

use crate::adapter::AdapterConfig;
// A circle on purpose: how a model is loaded and written is a part of it that fills a file of its own.
use crate::encoder::Llm2Clip;
use crate::error::{Error, Result};
use crate::network::{Network, NetworkConfig};
use crate::released;
use crate::teacher::{Teacher, TextSide};
use burn::module::Param;
use burn::prelude::*;
use clip::checkpoint::{
    StateDict, apply, collect, read_state_dict, write_safetensors, write_whole,
};
use clip::nn::init::Init;
use clip::{LoadOptions, PretrainedVision, VisionOptions, VisionTower, local_directory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The file that makes a directory a model of this kind.
pub const DESCRIPTION: &str = "llm2clip.json";
/// The configuration of the vision tower, in open_clip's form.
const VISION: &str = "open_clip_config.json";
/// All weights, by their paths in [`Network`].
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// Content of [`DESCRIPTION`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    adapter: AdapterConfig,
    text: TextSide,
}

/// What may be said when a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct Llm2ClipOptions {
    /// As for a CLIP; tokenizer and context length are not looked at. The precision is also the language model's.
    pub clip: LoadOptions,
    /// Directory of the language model, in place of what the model directory says.
    pub llm: Option<PathBuf>,
    /// Leaves the language model alone: images only, or a teacher that the caller has.
    pub without_teacher: bool,
    /// Whether the adapter's input is brought to unit length, in place of what the release's code does. For the SigLIP 2
    /// release, which nobody could look into.
    pub normalize: Option<bool>,
}

/// Whether a model is one of this kind: a directory that was written here, a released directory (`LLM2CLIPModel`), or a
/// released file with an adapter.
pub fn is_llm2clip(model: &str) -> bool {
    let Ok(path) = local_directory(model) else {
        return false; // what it is taken for next says why
    };
    if path.is_dir() {
        let config = std::fs::read_to_string(path.join("config.json")).ok();
        let config = config.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        return path.join(DESCRIPTION).is_file()
            || config.is_some_and(|config| clip::checkpoint::is_llm2clip(&config));
    }
    path.is_file() && read_state_dict(&path).is_ok_and(|dict| released::prefix(&dict).is_some())
}

impl<B: Backend> Llm2Clip<B> {
    /// Loads a directory that was written here, a released directory of Hugging Face, or a released `.pt` file.
    ///
    /// # Errors
    ///
    /// Names the file and what in it is missing or does not fit; refuses a language model whose vectors have another
    /// length than the adapter takes, or that is known to be another one.
    pub fn load(model: &str, options: &Llm2ClipOptions, device: &Device<B>) -> Result<Self> {
        let path = &local_directory(model)?;
        let ours = path.join(DESCRIPTION);
        let (vision, text, adapter, mut side) = match ours.is_file() {
            true => own(path, &ours, options, device)?,
            false => theirs(path, options, device)?,
        };
        if vision.config.embed_dim != adapter.embed_dim {
            let what = format!(
                "images have {} dimensions and texts {}: parts of two models",
                vision.config.embed_dim, adapter.embed_dim
            );
            return Err(Error::format(path, what));
        }
        if let Some(llm) = &options.llm {
            side.llm = Some(std::path::absolute(llm).unwrap_or(llm.clone()));
        }
        let teacher = match options.without_teacher {
            true => Teacher::None,
            false => {
                let load = llm::LoadOptions {
                    precision: options.clip.precision,
                    weights: options.clip.precision,
                };
                Teacher::load(&side, adapter.width, &load, device)?
            }
        };
        let config = NetworkConfig {
            preprocess: vision.preprocess.config().clone(),
            vision: vision.config,
            adapter,
        };
        let scale = vision.logit_scale.unwrap_or((1f32 / 0.07).ln());
        let network = Network {
            visual: vision.tower,
            text: adapter_of(&config.adapter, text, path, device)?,
            logit_scale: Param::from_data([scale], device),
        };
        Ok(Self::new(network, config, side, teacher))
    }
}

type Parts<B> = (PretrainedVision<B>, StateDict, AdapterConfig, TextSide);

fn own<B: Backend>(
    directory: &Path,
    description: &Path,
    options: &Llm2ClipOptions,
    device: &Device<B>,
) -> Result<Parts<B>> {
    let text = std::fs::read_to_string(description).map_err(Error::io(description))?;
    let Description { adapter, text } = serde_json::from_str(&text)
        .map_err(|error| Error::format(description, error.to_string()))?;
    let vision = vision(directory, options, device)?;
    let weights = read_state_dict(&directory.join(WEIGHTS))?;
    let weights = weights.rename(|name| name.strip_prefix("text.").map(Into::into));
    Ok((vision, weights, adapter, text.relative_to(directory)))
}

fn theirs<B: Backend>(
    path: &Path,
    options: &Llm2ClipOptions,
    device: &Device<B>,
) -> Result<Parts<B>> {
    let file = match path.is_dir() {
        false => path.to_path_buf(),
        true => {
            let names = [
                "model.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
            ];
            let files = names.map(|name| path.join(name));
            let file = files.into_iter().find(|file| file.is_file());
            file.ok_or_else(|| {
                Error::format(path, format!("no weights; looked for {}", names.join(", ")))
            })?
        }
    };
    let dict = read_state_dict(&file)?;
    let mut options = options.clone();
    if !path.is_dir() && options.clip.config.is_none() {
        options.clip.config = released::preset(&dict).map(Into::into);
    }
    let vision = vision(path, &options, device)?;
    let (adapter, weights) = released::adapter(dict, &file, options.normalize)?;
    Ok((vision, weights, adapter, TextSide::default()))
}

fn vision<B: Backend>(
    path: &Path,
    options: &Llm2ClipOptions,
    device: &Device<B>,
) -> Result<PretrainedVision<B>> {
    let vision = VisionOptions {
        model: options.clip.clone(),
        head: None,
    };
    Ok(VisionTower::load(&path.to_string_lossy(), &vision, device)?)
}

fn adapter_of<B: Backend>(
    config: &AdapterConfig,
    weights: StateDict,
    path: &Path,
    device: &Device<B>,
) -> Result<crate::Adapter<B>> {
    let skeleton = config.init(&mut Init::Zeros, device);
    Ok(apply(skeleton, weights, path, device)?)
}

/// Writes a model directory.
pub(crate) fn write<B: Backend>(model: &Llm2Clip<B>, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    write_safetensors(&directory.join(WEIGHTS), &collect(&model.network))?;
    let vision = json!({
        "model_cfg": model.config.vision.for_open_clip(),
        "preprocess_cfg": model.config.preprocess,
    });
    let description = Description {
        adapter: model.config.adapter,
        text: model.text_side.clone(),
    };
    let pretty = |value: &Value| format!("{value:#}\n");
    write_whole(&directory.join(VISION), pretty(&vision).as_bytes())?;
    let description = serde_json::to_value(description).expect("plain fields");
    write_whole(
        &directory.join(DESCRIPTION),
        pretty(&description).as_bytes(),
    )?;
    Ok(())
}
