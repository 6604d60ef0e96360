//! A model with all that is needed to use it: made of a source, and written as a directory.

use super::naming::{open_clip_name, to_open_clip};
use super::position::Positions;
use super::source::{CONFIG, LoadOptions, Source, WEIGHTS, Weights, fitted, resized};
use super::{HostTensor, WeightType, apply, collect, file, position, write_safetensors_as};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::model::Clip;
use crate::nn::init::Init;
use crate::preprocess::{Preprocess, PreprocessConfig};
use crate::tokenizer::{Tokenizer, TokenizerConfig, TokenizerError};
use burn::prelude::*;
use serde_json::json;
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

impl<B: Backend> Pretrained<B> {
    /// Loads a model from a model directory (open_clip's or Hugging Face's), a checkpoint file, a preset name
    /// (random weights), or `hf-hub:ORG/NAME`.
    ///
    /// # Errors
    ///
    /// Says which of these `model` was taken for, and what is missing or does not fit.
    pub fn load(model: &str, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        Self::of(Source::find(model, options)?, options, device)
    }

    /// Loads a model directory, open_clip's or Hugging Face's.
    ///
    /// # Errors
    ///
    /// Says what is missing or does not fit.
    pub fn from_dir(path: &Path, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        let source = Source::directory(path)?.resized(options)?;
        Self::of(source, options, device)
    }

    /// Loads a checkpoint file, whose architecture is [`LoadOptions::config`] unless its tensors leave no choice.
    ///
    /// # Errors
    ///
    /// Says what is missing or does not fit.
    pub fn from_file(path: &Path, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        let source = Source::file(path, options)?.resized(options)?;
        Self::of(source, options, device)
    }

    /// Loads a model of the Hugging Face hub, `ORG/NAME` or `ORG/NAME@REVISION`, in a build with the feature `hub`.
    ///
    /// # Errors
    ///
    /// Says what could not be fetched, is missing or does not fit.
    pub fn from_hub(name: &str, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        Self::from_dir(&crate::hub::download(name)?, options, device)
    }

    fn of(source: Source, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        let Source {
            config,
            preprocess,
            weights,
        } = source;
        match weights {
            Some(weights) => Self::assemble(config, preprocess, weights, options, device),
            None => Self::start(config, preprocess, options, device),
        }
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the tokenizer that the configuration names cannot be built.
    pub fn random(config: ModelConfig, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        Self::start(resized(config, options)?, None, options, device)
    }

    fn start(
        config: ModelConfig,
        preprocess: Option<PreprocessConfig>,
        options: &LoadOptions,
        device: &Device<B>,
    ) -> Result<Self> {
        Ok(Self {
            model: config.init(options.seed, options.precision, device),
            preprocess: Preprocess::new(fitted(preprocess, &config)),
            tokenizer: tokenizer(&config, options, None)?,
            config,
        })
    }

    fn assemble(
        config: ModelConfig,
        preprocess: Option<PreprocessConfig>,
        weights: Weights,
        options: &LoadOptions,
        device: &Device<B>,
    ) -> Result<Self> {
        let Weights {
            mut dict,
            scheme,
            file,
            directory,
        } = weights;
        let positions = position::fit(&mut dict, &config, scheme);
        if config.init_logit_bias.is_some() && dict.get("logit_bias").is_none() {
            // Checkpoints from before the bias are used with a bias of zero, as open_clip does.
            dict.insert("logit_bias", HostTensor::from_values(vec![0.0], [1]));
        }
        let skeleton = config.build(Init::Zeros, options.precision, device);
        let mut model = apply(skeleton, dict, &file, device)?;
        if positions == Positions::Fixed {
            model.visual = model.visual.with_fixed_positions();
        }
        // A bare file has its tokenizer beside it.
        let folder = directory.as_deref().or(file.parent());
        Ok(Self {
            model,
            preprocess: Preprocess::new(fitted(preprocess, &config)),
            tokenizer: tokenizer(&config, options, folder).map_err(|error| match error {
                Error::Tokenizer(error @ TokenizerError::Unsupported { .. }) => {
                    Error::format(directory.as_deref().unwrap_or(&file), error.to_string())
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
        let json = json!({ "model_cfg": config.for_open_clip(), "preprocess_cfg": self.preprocess.config() });
        let text = serde_json::to_string_pretty(&json).expect("a config is plain data") + "\n";
        file::write_whole(&path.join(CONFIG), text.as_bytes())
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
    use super::super::source::read_preset;
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
