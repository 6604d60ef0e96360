//! A model with all that is needed to use it, and the places it comes from.

use super::naming::{Scheme, canonical, open_clip_name, to_open_clip};
use super::position::Positions;
use super::state_dict::StateDict;
use super::{
    HostTensor, WeightType, apply, collect, file, hugging_face, position, read_state_dict, siglip,
    write_safetensors_as,
};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::infer::fitting_presets;
use crate::model::Clip;
use crate::nn::init::Init;
use crate::precision::Precision;
use crate::preprocess::{Preprocess, PreprocessConfig};
use crate::tokenizer::{Tokenizer, TokenizerConfig, TokenizerError};
use burn::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A model with its preprocessing and tokenizer: what `open_clip.create_model_and_transforms` gives.
#[derive(Debug, Clone)]
pub struct Pretrained<B: Backend> {
    /// The towers.
    pub model: Clip<B>,
    /// How images must be prepared.
    pub preprocess: Preprocess,
    /// How texts become ids.
    pub tokenizer: Tokenizer,
    /// Architecture.
    pub config: ModelConfig,
}

/// What may be said when a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// For a bare checkpoint file: a config file, or the name of a preset. LaCLIP's need none.
    pub config: Option<String>,
    /// Dtype of the activations.
    pub precision: Precision,
    /// Seed of a model with random weights.
    pub seed: u64,
    /// Another image size than the checkpoint's; position embeddings are resized.
    pub image_size: Option<[usize; 2]>,
    /// Another context length than the checkpoint's; position embeddings are resized.
    pub context_length: Option<usize>,
    /// A tokenizer in place of the model's own: `tokenizer.json`, `vocab.txt`, or a folder with one of them. An
    /// architecture without weights whose tokenizer is not CLIP's needs it.
    pub tokenizer: Option<PathBuf>,
}

pub(crate) const CONFIG: &str = "open_clip_config.json";
const WEIGHTS: &str = "open_clip_model.safetensors";

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

impl<B: Backend> Pretrained<B> {
    /// Loads a model from a model directory (open_clip's or Hugging Face's), a checkpoint file, a preset name
    /// (random weights), or `hf-hub:ORG/NAME`.
    ///
    /// # Errors
    ///
    /// Says which of these `model` was taken for, and what is missing or does not fit.
    pub fn load(model: &str, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        if let Some(name) = model.strip_prefix("hf-hub:") {
            return Self::load_directory(&crate::hub::download(name)?, options, device);
        }
        let path = Path::new(model.strip_prefix("local-dir:").unwrap_or(model));
        if path.is_dir() {
            Self::load_directory(path, options, device)
        } else if path.is_file() {
            Self::load_file(path, options, device)
        } else if ModelConfig::preset_names().any(|name| name == model) {
            let (config, preprocess) = read_preset(model)?;
            Self::start(config, preprocess, options, device)
        } else {
            Err(Error::NotFound(format!(
                "`{model}` is no directory, no file and no preset ({}); \
                 for a model of the hub write hf-hub:ORG/NAME",
                ModelConfig::preset_names().collect::<Vec<_>>().join(", ")
            )))
        }
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the tokenizer that the configuration names cannot be built.
    pub fn random(config: ModelConfig, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        Self::start(config, None, options, device)
    }

    fn start(
        config: ModelConfig,
        preprocess: Option<PreprocessConfig>,
        options: &LoadOptions,
        device: &Device<B>,
    ) -> Result<Self> {
        let config = resized(config, options);
        Ok(Self {
            model: config.init(options.seed, options.precision, device),
            preprocess: Preprocess::new(fitted(preprocess, &config)),
            tokenizer: tokenizer(&config, options, None)?,
            config,
        })
    }

    fn load_directory(path: &Path, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        let (config, preprocess) = read_configs(path)?;
        let config = resized(config, options);
        let weights = WEIGHT_FILES
            .iter()
            .map(|name| path.join(name))
            .find(|file| file.is_file());
        let weights = weights.ok_or_else(|| {
            Error::format(
                path,
                format!("no weights; looked for {}", WEIGHT_FILES.join(", ")),
            )
        })?;
        let (_, dict) = canonical(read_state_dict(&weights)?, &weights)?;
        Self::assemble(
            config,
            preprocess,
            dict,
            &weights,
            Some(path),
            options,
            device,
        )
    }

    fn load_file(path: &Path, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        let (scheme, dict) = canonical(read_state_dict(path)?, path)?;
        let (config, preprocess) = match &options.config {
            Some(config) => read_config_argument(config)?,
            None => configs_of_bare(&dict, scheme, path)?,
        };
        if scheme == Scheme::Slip && !(config.vision_cfg.patch_bias && preprocess.is_some()) {
            return Err(Error::format(
                path,
                "a SLIP or LaCLIP checkpoint: its config needs `patch_bias` and `preprocess_cfg`, as the presets \
                 CLIP_VITS16, CLIP_VITB16 and CLIP_VITL16 have them",
            ));
        }
        let config = resized(config, options);
        Self::assemble(config, preprocess, dict, path, None, options, device)
    }

    fn assemble(
        config: ModelConfig,
        preprocess: Option<PreprocessConfig>,
        mut dict: StateDict,
        weights: &Path,
        directory: Option<&Path>,
        options: &LoadOptions,
        device: &Device<B>,
    ) -> Result<Self> {
        let positions = position::fit(&mut dict, &config);
        if config.init_logit_bias.is_some() && dict.get("logit_bias").is_none() {
            // Checkpoints from before the bias are used with a bias of zero, as open_clip does.
            dict.insert("logit_bias", HostTensor::from_values(vec![0.0], [1]));
        }
        let skeleton = config.build(Init::Zeros, options.precision, device);
        let mut model = apply(skeleton, dict, weights, device)?;
        if positions == Positions::Fixed {
            model = model.with_fixed_positions();
        }
        // A bare file has its tokenizer beside it.
        let beside = directory.or(weights.parent());
        Ok(Self {
            model,
            preprocess: Preprocess::new(fitted(preprocess, &config)),
            tokenizer: tokenizer(&config, options, beside).map_err(|error| match error {
                Error::Tokenizer(error @ TokenizerError::Unsupported { .. }) => {
                    Error::format(directory.unwrap_or(weights), error.to_string())
                }
                other => other,
            })?,
            config,
        })
    }

    /// Writes a model directory that `open_clip.create_model('local-dir:PATH')` loads, with weights in f32. It appears
    /// whole or not at all.
    ///
    /// # Errors
    ///
    /// Refuses a directory that is not empty; names the file that could not be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_as(path, WeightType::F32)
    }

    /// [`Pretrained::save`] with weights rounded to another type.
    ///
    /// # Errors
    ///
    /// As [`Pretrained::save`].
    pub fn save_as(&self, path: &Path, dtype: WeightType) -> Result<()> {
        if path
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
        {
            return Err(Error::format(
                path,
                "the directory is not empty; choose another",
            ));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let written = self.write_into_as(&partial, dtype).and_then(|()| {
            let _ = std::fs::remove_dir(path); // an empty one makes way
            std::fs::rename(&partial, path).map_err(Error::io(path))
        });
        if written.is_err() {
            let _ = std::fs::remove_dir_all(&partial);
        }
        written
    }

    /// File and name under which [`write_into`](Self::write_into) stores the values of a parameter, given by its path in
    /// the model. `None` for towers of timm, whose names follow other rules.
    pub fn exported_name(&self, parameter: &str) -> Option<(String, String)> {
        let tensor = open_clip_name(parameter, self.config.custom_text).to_string();
        let ours = self.config.vision_cfg.timm_model_name.is_none();
        ours.then(|| (WEIGHTS.to_string(), tensor))
    }

    /// Writes the files of a model directory into `path`, each whole or not at all, replacing those that exist.
    /// Weights are f32.
    ///
    /// # Errors
    ///
    /// Names the file that could not be written.
    pub fn write_into(&self, path: &Path) -> Result<()> {
        self.write_into_as(path, WeightType::F32)
    }

    /// [`Pretrained::write_into`] with weights rounded to another type. One tensor at a time is copied to the host.
    ///
    /// # Errors
    ///
    /// As [`Pretrained::write_into`].
    pub fn write_into_as(&self, path: &Path, dtype: WeightType) -> Result<()> {
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let config = &self.config;
        let dict = to_open_clip(collect(&self.model), config);
        write_safetensors_as(&path.join(WEIGHTS), &dict, dtype)?;
        self.tokenizer.save(path)?;
        let json = json!({ "model_cfg": config.without_init(), "preprocess_cfg": self.preprocess.config() });
        let text = serde_json::to_string_pretty(&json).expect("a config is plain data") + "\n";
        file::write_whole(&path.join(CONFIG), text.as_bytes())
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|error| Error::format(path, format!("not JSON: {error}")))
}

/// The configs of a model directory.
fn read_configs(path: &Path) -> Result<(ModelConfig, Option<PreprocessConfig>)> {
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
    let mut config = hugging_face::model_config(&read_json(&theirs)?, &theirs)?;
    if path.join("tokenizer.json").is_file() {
        // Cleans and pads a text in another way than CLIP's own, so it stays with the model when that is saved.
        // Any name will do: the files are read from the model directory.
        let name = path.file_name().unwrap_or("tokenizer.json".as_ref());
        config.text_cfg.hf_tokenizer_name = Some(name.to_string_lossy().into_owned());
    }
    let preprocessor = path.join("preprocessor_config.json");
    let preprocess = match preprocessor.is_file() {
        true => Some(hugging_face::preprocess_config(
            &read_json(&preprocessor)?,
            &preprocessor,
        )?),
        false => config
            .vision_cfg
            .timm_model_name
            .is_some()
            .then(siglip::preprocess_config),
    };
    Ok((config, preprocess))
}

fn read_open_clip_config(path: &Path) -> Result<(ModelConfig, Option<PreprocessConfig>)> {
    configs(&read_json(path)?).map_err(|error| Error::format(path, error.to_string()))
}

fn configs(json: &Value) -> Result<(ModelConfig, Option<PreprocessConfig>)> {
    let preprocess = match json.get("preprocess_cfg") {
        None | Some(Value::Null) => None,
        Some(value) => Some(
            serde_json::from_value(value.clone())
                .map_err(|error| Error::Config(error.to_string()))?,
        ),
    };
    Ok((ModelConfig::from_json(json)?, preprocess))
}

fn read_preset(name: &str) -> Result<(ModelConfig, Option<PreprocessConfig>)> {
    configs(&ModelConfig::preset_json(name)?)
}

/// The configs of a checkpoint file that nothing was said about, where its tensors leave no choice: LaCLIP's models.
fn configs_of_bare(
    dict: &StateDict,
    scheme: Scheme,
    path: &Path,
) -> Result<(ModelConfig, Option<PreprocessConfig>)> {
    let fitting = fitting_presets(dict);
    if let (Scheme::Slip, [preset]) = (scheme, fitting.as_slice()) {
        return read_preset(preset);
    }
    let what = if scheme == Scheme::Slip {
        "a SLIP checkpoint, or one like LaCLIP's with other shapes: write its config with --config FILE, beginning \
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
            "a bare checkpoint says nothing of its activation and preprocessing: name them with --config (a JSON \
             file or a preset){}",
            match fitting.is_empty() {
                true => String::new(),
                false => format!("; its tensors have the shapes of {choices}"),
            }
        )
    };
    Err(Error::format(path, what))
}

/// A file, or the name of a preset.
fn read_config_argument(argument: &str) -> Result<(ModelConfig, Option<PreprocessConfig>)> {
    let path = Path::new(argument);
    if path.is_file() {
        return read_open_clip_config(path);
    }
    read_preset(argument)
        .map_err(|error| Error::NotFound(format!("`{argument}` is no config file, and {error}")))
}

fn resized(mut config: ModelConfig, options: &LoadOptions) -> ModelConfig {
    if let Some(sides) = options.image_size {
        config.vision_cfg.set_image_size(sides);
    }
    if let Some(length) = options.context_length {
        config.text_cfg.context_length = length;
    }
    config
}

/// What was given, or open_clip's defaults, at the model's image size.
fn fitted(preprocess: Option<PreprocessConfig>, config: &ModelConfig) -> PreprocessConfig {
    PreprocessConfig {
        size: config.vision_cfg.image_size.sides(),
        ..preprocess.unwrap_or_default()
    }
}

/// The tokenizer that the configuration names, from where the options say, or else from the folder of the model.
fn tokenizer(
    config: &ModelConfig,
    options: &LoadOptions,
    folder: Option<&Path>,
) -> Result<Tokenizer> {
    let text_cfg = serde_json::to_value(&config.text_cfg).expect("a config is plain data");
    let text_cfg: TokenizerConfig = serde_json::from_value(text_cfg)
        .map_err(|error| Error::Config(format!("text_cfg: {error}")))?;
    if let Some(path) = &options.tokenizer {
        return Ok(Tokenizer::from_file(path, &text_cfg)?);
    }
    match (folder, &config.text_cfg.hf_tokenizer_name) {
        (Some(folder), _) => Ok(Tokenizer::from_config(&text_cfg, folder)?),
        (None, None) => Ok(Tokenizer::from_config(&text_cfg, Path::new(""))?),
        (None, Some(name)) if name.is_empty() => {
            Ok(Tokenizer::from_config(&text_cfg, Path::new(""))?)
        }
        // Whatever tokenizer.json lies in the working directory, it is not this model's.
        (None, Some(name)) => Err(Error::NotFound(format!(
            "the tokenizer of this architecture is `{name}`, which comes with no preset: give a tokenizer.json, a \
             vocab.txt or a folder with one of them (`tokenizer` of the options)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{IMAGENET_MEAN, IMAGENET_STD, Interpolation};

    #[test]
    fn a_preset_brings_its_preprocessing() {
        let (config, preprocess) = read_preset("CLIP_VITS16").unwrap();
        let preprocess = fitted(preprocess, &config);
        assert_eq!(
            (preprocess.mean, preprocess.std),
            (IMAGENET_MEAN, IMAGENET_STD)
        );
        assert_eq!(preprocess.interpolation, Interpolation::Bilinear);
        let (config, preprocess) = read_preset("ViT-B-16").unwrap();
        assert_eq!(fitted(preprocess, &config), PreprocessConfig::default());
    }

    #[test]
    fn a_preset_never_takes_a_tokenizer_that_happens_to_lie_around() {
        let options = LoadOptions::default();
        let config = ModelConfig::preset("ViT-L-14-CLIPA").unwrap();
        let message = tokenizer(&config, &options, None).unwrap_err().to_string();
        assert!(message.contains("bert-base-uncased"), "{message}");
        let fixture = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/tokenizer_bert"
        );
        let options = LoadOptions {
            tokenizer: Some(fixture.into()),
            ..options
        };
        let tokenizer = tokenizer(&config, &options, None).unwrap();
        assert_eq!(tokenizer.context_length(), 32);
    }
}
