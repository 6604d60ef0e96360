//! Where a model comes from: a directory, a file, a preset or the hub → its configuration and its tensors.

use super::naming::{Scheme, canonical};
use super::state_dict::StateDict;
use super::{hugging_face, read_state_dict, siglip};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::hub::local_directory;
use crate::infer::fitting_presets;
use crate::precision::Precision;
use crate::preprocess::PreprocessConfig;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What may be said when a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// For a bare checkpoint file: a config file, a model directory that has one, or the name of a preset. LaCLIP's need
    /// none; beside a model of another kind it is an error.
    pub config: Option<String>,
    /// Dtype of the activations.
    pub precision: Precision,
    /// Seed of a model with random weights.
    pub seed: u64,
    /// Another image size than the checkpoint's; position embeddings are resized. Those of ResNets are not, so that only
    /// random ones take another size.
    pub image_size: Option<[usize; 2]>,
    /// Another context length than the checkpoint's; position embeddings are resized.
    pub context_length: Option<usize>,
    /// A tokenizer in place of the model's own: `tokenizer.json`, `vocab.txt`, or a folder with one of them. An
    /// architecture without weights whose tokenizer is not CLIP's needs it.
    pub tokenizer: Option<PathBuf>,
}

pub(crate) const CONFIG: &str = "open_clip_config.json";
pub(super) const WEIGHTS: &str = "open_clip_model.safetensors";

/// Constants that OpenAI's archives hold beside the weights, and nobody else's files.
const OPENAI_CONSTANTS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// In open_clip's order of preference.
pub(crate) const WEIGHT_FILES: [&str; 9] = [
    WEIGHTS,
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pth",
];

/// The two halves of `open_clip_config.json`.
type Configs = (ModelConfig, Option<PreprocessConfig>);

/// What is known of a model before it is built.
pub(super) struct Source {
    pub config: ModelConfig,
    pub preprocess: Option<PreprocessConfig>,
    /// Absent for a preset.
    pub weights: Option<Weights>,
}

/// Tensors under our names, and where they were found.
pub(super) struct Weights {
    pub dict: StateDict,
    pub scheme: Scheme,
    pub file: PathBuf,
    /// The model directory, where the file is part of one.
    pub directory: Option<PathBuf>,
}

impl Source {
    /// A model directory (open_clip's or Hugging Face's), a checkpoint file, a preset, or `hf-hub:ORG/NAME`, at the
    /// sizes that the options ask for.
    pub fn find(model: &str, options: &LoadOptions) -> Result<Self> {
        Self::read(model, options)?.resized(options)
    }

    /// The source at the sizes that the options ask for.
    pub fn resized(mut self, options: &LoadOptions) -> Result<Self> {
        if let (Some(sides), Some(weights)) = (options.image_size, &self.weights)
            && self.config.vision_cfg.stages().is_some()
            && sides != self.config.vision_cfg.image_size.sides()
        {
            let [height, width] = self.config.vision_cfg.image_size.sides();
            return Err(Error::format(
                &weights.file,
                format!(
                    "the positions of a ResNet's attention pool are not resized, as open_clip does not: it takes images \
                     of {height} × {width} pixels, not {} × {}",
                    sides[0], sides[1]
                ),
            ));
        }
        self.config = resized(self.config, options)?;
        Ok(self)
    }

    fn read(model: &str, options: &LoadOptions) -> Result<Self> {
        // Before files: what a name means must not depend on what lies in the working directory.
        if is_random(model) {
            refuse_config(model, "an architecture, with random weights", options)?;
            let (config, preprocess) = read_config_argument(model)?;
            return Ok(Self {
                config,
                preprocess,
                weights: None,
            });
        }
        let path = local_directory(model)?;
        if path.is_dir() {
            refuse_config(model, "a model directory, which has its own", options)?;
            Self::directory(&path)
        } else if path.is_file() {
            Self::file(&path, options)
        } else {
            Err(Error::NotFound(not_found(model)))
        }
    }

    pub fn directory(path: &Path) -> Result<Self> {
        let (config, preprocess) = read_configs(path)?;
        let file = WEIGHT_FILES
            .iter()
            .map(|name| path.join(name))
            .find(|file| file.is_file());
        let file = file.ok_or_else(|| {
            Error::format(
                path,
                format!("no weights; looked for {}", WEIGHT_FILES.join(", ")),
            )
        })?;
        let (scheme, dict) = canonical(read_state_dict(&file)?, &file)?;
        let weights = Weights {
            dict,
            scheme,
            file,
            directory: Some(path.into()),
        };
        Ok(Self {
            config,
            preprocess,
            weights: Some(weights),
        })
    }

    pub fn file(path: &Path, options: &LoadOptions) -> Result<Self> {
        let dict = read_state_dict(path)?;
        let of_openai = OPENAI_CONSTANTS.iter().all(|name| dict.get(name).is_some());
        let (scheme, dict) = canonical(dict, path)?;
        let (config, preprocess) = match &options.config {
            Some(config) => read_config_argument(config)?,
            None => configs_of_bare(&dict, scheme, of_openai, path)?,
        };
        if of_openai && !config.quick_gelu {
            let config = options.config.as_deref().unwrap_or_default();
            return Err(Error::format(
                path,
                format!(
                    "OpenAI's own file, whose model has QuickGELU, and `{config}` (`config`) has GELU: take the preset \
                     whose name ends in -quickgelu, or set `quick_gelu` in the file"
                ),
            ));
        }
        if scheme == Scheme::Slip && !(config.vision_cfg.patch_bias && preprocess.is_some()) {
            return Err(Error::format(
                path,
                "a SLIP or LaCLIP checkpoint: its config needs `patch_bias` and `preprocess_cfg`, as the presets \
                 CLIP_VITS16, CLIP_VITB16 and CLIP_VITL16 have them",
            ));
        }
        let weights = Weights {
            dict,
            scheme,
            file: path.into(),
            directory: None,
        };
        Ok(Self {
            config,
            preprocess,
            weights: Some(weights),
        })
    }
}

/// Whether a name stands for an architecture, whose weights are random: a preset, or a config file in open_clip's schema.
pub fn is_random(model: &str) -> bool {
    let is_config = model.ends_with(".json") && !model.ends_with(".index.json");
    ModelConfig::preset_names().any(|name| name == model)
        || (is_config && Path::new(model).is_file())
}

/// What looks like a path can only be one; anything else may be a misspelt preset.
fn not_found(model: &str) -> String {
    let is_path = model.contains(['/', '\\']) || Path::new(model).extension().is_some();
    let presets = match is_path {
        true => String::new(),
        false => {
            let names = ModelConfig::preset_names().collect::<Vec<_>>();
            format!(" and no preset ({})", names.join(", "))
        }
    };
    format!(
        "`{model}` is no directory, no file{presets}; for a model of the hub write hf-hub:ORG/NAME"
    )
}

/// A config is for a bare file; beside anything else it would change nothing.
pub(super) fn refuse_config(model: &str, kind: &str, options: &LoadOptions) -> Result<()> {
    match &options.config {
        None => Ok(()),
        Some(config) => Err(Error::Config(format!(
            "`{config}` (`config`) would not be used: `{model}` is {kind}; \
             leave it out, or name a checkpoint file as the model"
        ))),
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|error| Error::format(path, format!("not JSON: {error}")))
}

/// The configs of a model directory.
fn read_configs(path: &Path) -> Result<Configs> {
    let ours = path.join(CONFIG);
    if ours.is_file() {
        return read_open_clip_config(&ours);
    }
    let theirs = path.join("config.json");
    if !theirs.is_file() {
        return Err(Error::format(
            path,
            format!("neither {CONFIG} nor config.json: not a model directory"),
        ));
    }
    let json = read_json(&theirs)?;
    let mut config = hugging_face::model_config(&json, &theirs)?;
    // Cleans and pads a text in another way than CLIP's own, so it stays with the model when that is saved. Any name will
    // do: the files are read from the model directory, and if there are none, that is an error as in transformers.
    let name = path.file_name().unwrap_or("tokenizer.json".as_ref());
    config.text_cfg.hf_tokenizer_name = Some(name.to_string_lossy().into_owned());
    let kwargs = config.text_cfg.tokenizer_kwargs.get_or_insert_default();
    kwargs.entry("clean").or_insert_with(|| "none".into());
    let siglip = config.vision_cfg.timm_model_name.is_some();
    let preprocess = match read_processor(path)? {
        Some((file, preprocess)) => {
            let sides = config.vision_cfg.image_size.sides();
            if preprocess.size != sides {
                return Err(Error::format(
                    &file,
                    format!(
                        "images become {:?}, and the model takes {sides:?} (`image_size` in config.json): files of two \
                         models",
                        preprocess.size
                    ),
                ));
            }
            preprocess
        }
        None if siglip => siglip::preprocess_config(),
        // Its directories have no such file: their page says to take OpenAI's processor, at the model's image size.
        None if is_llm2clip(&json) => hugging_face::preprocess_config(&Value::Null, &theirs)?,
        None => {
            return Err(Error::format(
                path,
                format!(
                    "no {PREPROCESSOR} and no {PROCESSOR} with an `image_processor`: they say how the model's images are \
                     prepared; copy one from the model that this one was made of"
                ),
            ));
        }
    };
    Ok((config, Some(preprocess)))
}

/// Whether a `config.json` is of LLM2CLIP, whose directories hold a vision tower and an adapter.
pub fn is_llm2clip(config: &Value) -> bool {
    let architectures = config["architectures"].as_array();
    architectures.is_some_and(|names| names.iter().any(|name| name == "LLM2CLIPModel"))
}

/// How Hugging Face's directories name what is done to images.
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";
/// The same for all that a model takes, since transformers 5.
pub(crate) const PROCESSOR: &str = "processor_config.json";

/// transformers wrote `preprocessor_config.json` until version 5, which puts the same into `processor_config.json` and
/// prefers what stands there.
fn read_processor(folder: &Path) -> Result<Option<(PathBuf, PreprocessConfig)>> {
    for (name, field) in [(PROCESSOR, Some("image_processor")), (PREPROCESSOR, None)] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let json = read_json(&path)?;
        match field.map_or(Some(&json), |field| json.get(field)) {
            Some(json) => {
                let preprocess = hugging_face::preprocess_config(json, &path)?;
                return Ok(Some((path, preprocess)));
            }
            None => continue,
        }
    }
    Ok(None)
}

fn read_open_clip_config(path: &Path) -> Result<Configs> {
    configs(&read_json(path)?).map_err(|error| Error::format(path, error.to_string()))
}

fn configs(json: &Value) -> Result<Configs> {
    let preprocess = match json.get("preprocess_cfg") {
        None | Some(Value::Null) => None,
        Some(value) => Some(
            serde_json::from_value(value.clone())
                .map_err(|error| Error::Config(error.to_string()))?,
        ),
    };
    Ok((ModelConfig::from_json(json)?, preprocess))
}

pub(super) fn read_preset(name: &str) -> Result<Configs> {
    configs(&ModelConfig::preset_json(name)?)
}

/// The configs of a checkpoint file that nothing was said about, where its tensors leave no choice: LaCLIP's, EVA-CLIP's
/// and OpenAI's models.
fn configs_of_bare(
    dict: &StateDict,
    scheme: Scheme,
    of_openai: bool,
    path: &Path,
) -> Result<Configs> {
    let mut fitting = fitting_presets(dict);
    if of_openai {
        fitting.retain(|name| ModelConfig::preset(name).is_ok_and(|config| config.quick_gelu));
    }
    let certain = of_openai || matches!(scheme, Scheme::Slip | Scheme::EvaClip);
    if let (true, [preset]) = (certain, fitting.as_slice()) {
        return read_preset(preset);
    }
    let what = if scheme == Scheme::Slip {
        "a SLIP checkpoint, or one like LaCLIP's with other shapes: give a config file (`config`), beginning \
         from that of a CLIP_VIT preset (without `qk_norm` if there is no norm of queries and keys)"
            .to_string()
    } else {
        let choices = fitting.iter().map(|name| {
            let activation = match ModelConfig::preset(name) {
                Ok(config) if config.quick_gelu => "QuickGELU",
                _ => "GELU",
            };
            format!("{name} ({activation})")
        });
        let choices = choices.collect::<Vec<_>>().join(" or ");
        format!(
            "a bare checkpoint says nothing of its activation and preprocessing: name them (`config`: a JSON \
             file or a preset){}",
            match fitting.is_empty() {
                true => String::new(),
                false => format!("; its tensors have the shapes of {choices}"),
            }
        )
    };
    Err(Error::format(path, what))
}

/// The name of a preset, a file, or a model directory.
fn read_config_argument(argument: &str) -> Result<Configs> {
    let path = Path::new(argument);
    let preset = ModelConfig::preset_names().any(|name| name == argument);
    if !preset && path.is_dir() {
        return read_configs(path);
    }
    if !preset && path.is_file() {
        return read_open_clip_config(path);
    }
    read_preset(argument)
        .map_err(|error| Error::NotFound(format!("`{argument}` is no config file, and {error}")))
}

/// The configuration at the sizes that were asked for, which must fit together like any other's.
pub(super) fn resized(mut config: ModelConfig, options: &LoadOptions) -> Result<ModelConfig> {
    if let Some(sides) = options.image_size {
        config.vision_cfg.set_image_size(sides);
    }
    if let Some(length) = options.context_length {
        config.text_cfg.context_length = length;
    }
    config.check()?;
    Ok(config)
}

/// What was given, or open_clip's defaults, at the model's image size.
pub(super) fn fitted(
    preprocess: Option<PreprocessConfig>,
    config: &ModelConfig,
) -> PreprocessConfig {
    let preprocess = preprocess.unwrap_or_default();
    let size = config.vision_cfg.image_size.sides();
    PreprocessConfig {
        // Where another size was asked for, as much is cropped away as before.
        shortest_edge: preprocess
            .shortest_edge
            .map(|edge| edge * size[0] / preprocess.size[0]),
        size,
        ..preprocess
    }
}
