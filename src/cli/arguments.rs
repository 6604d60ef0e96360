//! Options that several programs have.

use super::dist::DistArgs;
use crate::backend::{BackendArg, check, features};
use crate::models::Model;
use anyhow::Result;
use burn::prelude::Backend;
use clap::Args;
use clip::{LoadOptions, Precision, is_random};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use train::{Launch, Start, Stop};

/// Where to compute.
#[derive(Debug, Clone, Args)]
pub struct ComputeArgs {
    /// flex, ndarray, wgpu, cuda, cuda:N, tch, tch:cuda, tch:cuda:N or tch:mps, as far as compiled in
    #[arg(long, default_value_t, alias = "device")]
    pub backend: BackendArg,
    /// f32 or bf16: dtype of the activations
    #[arg(long, default_value_t)]
    pub precision: Precision,
}

impl ComputeArgs {
    /// # Errors
    ///
    /// If the backend cannot be used here, or not in this precision.
    pub fn check(&self) -> Result<()> {
        check(self.backend, self.precision).map_err(anyhow::Error::msg)
    }
}

/// Says on standard error what nobody should overlook: a preset brings no weights.
pub fn warn_of_random(model: &str) {
    if is_random(model) {
        eprintln!(
            "WARNING: `{model}` is the name of an architecture, so its weights are RANDOM and every result is noise; \
             name a model directory, a checkpoint or hf-hub:ORG/NAME to use trained ones"
        );
    }
}

/// How a run of training is started.
#[derive(Debug, Clone, Args)]
pub struct LaunchArgs {
    /// Continues from `latest` or from a checkpoint's folder
    #[arg(long)]
    resume: Option<String>,
    /// With --resume: goes on though the recipe differs from the checkpoint's; the log says in what
    #[arg(long, requires = "resume")]
    accept_changes: bool,
    /// flex, ndarray, wgpu, cuda, cuda:N, tch, tch:cuda, tch:cuda:N or tch:mps, as far as compiled in
    #[arg(long, default_value_t, alias = "device")]
    pub backend: BackendArg,
    #[command(flatten)]
    dist: DistArgs,
}

impl LaunchArgs {
    /// As the engine wants it; SIGTERM, SIGUSR1 and Ctrl-C end the run from here on. With several processes on one machine
    /// the backend becomes the device of this one.
    ///
    /// # Errors
    ///
    /// If the system refuses to hand over the signals, and those of [`DistArgs::world`].
    pub fn launch(&mut self) -> Result<Launch> {
        let (world, local_rank) = self.dist.world()?;
        self.backend = self.backend.of_rank(local_rank);
        let resume = self.resume.as_deref();
        Ok(Launch {
            world,
            direct: None,
            start: resume.map_or(Start::New, Start::from),
            accept_changes: self.accept_changes,
            stop: Stop::on_signals()?,
            features: features(),
        })
    }
}

/// Which model.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Model directory, folder of a run, checkpoint file (with --config), hf-hub:ORG/NAME; a preset's name or a config
    /// file in open_clip's schema for random weights
    #[arg(long)]
    pub model: String,
    /// How it is loaded.
    #[command(flatten)]
    pub loading: LoadArgs,
}

/// How a model is loaded, whichever it is.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadArgs {
    /// For a bare checkpoint file that is not LaCLIP's: its config (a JSON file in open_clip's schema, or a preset name)
    #[arg(long)]
    pub config: Option<String>,
    /// Side of the images in pixels, if not the model's own; position embeddings are resized
    #[arg(long, alias = "force-image-size")]
    pub image_size: Option<usize>,
    /// A tokenizer in place of the model's own: tokenizer.json, vocab.txt, or a folder with one of them
    #[arg(long)]
    pub tokenizer: Option<PathBuf>,
    /// Seed of random weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// For an LLM2CLIP model: the directory of its language model, in place of the one that the model names
    #[arg(long)]
    pub llm: Option<PathBuf>,
}

impl ModelArgs {
    /// Loads the model; says so where its weights are random.
    ///
    /// # Errors
    ///
    /// Says what the model was taken for, and what is missing or does not fit.
    pub fn load<B: Backend>(&self, precision: Precision, device: &B::Device) -> Result<Model<B>> {
        warn_of_random(&self.model);
        let options = self.options(precision);
        Model::load_with_llm(&self.model, &options, self.loading.llm.as_deref(), device)
    }

    /// As the library wants it.
    pub fn options(&self, precision: Precision) -> LoadOptions {
        LoadOptions {
            config: self.loading.config.clone(),
            tokenizer: self.loading.tokenizer.clone(),
            precision,
            seed: self.loading.seed,
            image_size: self.loading.image_size.map(|side| [side, side]),
            ..LoadOptions::default()
        }
    }

    /// The same model, found from any working directory.
    pub fn absolute(&self) -> Self {
        let file = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        // What is no file here is a preset, or a model of the hub.
        let name = |name: &String| match Path::new(name).exists() {
            true => file(&name.into()).display().to_string(),
            false => name.clone(),
        };
        Self {
            model: name(&self.model),
            loading: LoadArgs {
                config: self.loading.config.as_ref().map(name),
                tokenizer: self.loading.tokenizer.as_ref().map(file),
                llm: self.loading.llm.as_ref().map(file),
                ..self.loading.clone()
            },
        }
    }
}
