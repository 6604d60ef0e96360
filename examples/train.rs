//! Trains a model as a recipe says.

use anyhow::{Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{BackendArg, Job, check_precision, with_backend};
use clip_burn::clip::nn::PatchDropout;
use clip_burn::clip::preprocess::Augment;
use clip_burn::clip::{LoadOptions, Precision, Pretrained};
use clip_burn::train::collective::Single;
use clip_burn::train::contrastive::ContrastiveLoss;
use clip_burn::train::pairs::{DataConfig, Pairs};
use clip_burn::train::{Contrastive, Recipe, Resume, Run, run};
use serde::Deserialize;
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Train a model as a recipe says
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example train -- --recipe recipes/clip_vit_b_32.toml --set optimizer.lr=1e-3 --resume latest")]
struct Arguments {
    /// The recipe, a TOML file
    #[arg(long)]
    recipe: PathBuf,
    /// Overrides a field of the recipe: table.field=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Continues from `latest` or from a checkpoint's folder
    #[arg(long)]
    resume: Option<String>,
    /// flex, ndarray, wgpu, cuda or cuda:N, as far as compiled in
    #[arg(long, default_value_t)]
    backend: BackendArg,
}

/// The `[model]` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    /// Model directory, checkpoint file, preset name (random weights) or hf-hub:ORG/NAME.
    name: String,
    /// Config of a bare checkpoint file.
    config: Option<String>,
    /// f32 or bf16.
    #[serde(default = "f32")]
    precision: String,
}

fn f32() -> String {
    Precision::F32.to_string()
}

/// The `[method]` table.
#[derive(Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
enum Method {
    Clip {
        #[serde(default)]
        loss: ContrastiveLoss,
        #[serde(default)]
        patch_dropout: f64,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let recipe = Recipe::load(&arguments.recipe, &arguments.overrides)?;
    let model: Model = recipe.section("model")?;
    let precision = model.precision.parse().map_err(anyhow::Error::msg)?;
    check_precision(arguments.backend, precision).map_err(anyhow::Error::msg)?;
    let resume = arguments.resume.as_deref().map_or(Resume::No, Resume::from);
    with_backend(
        arguments.backend,
        precision,
        Train {
            recipe,
            model,
            precision,
            resume,
        },
    )
}

struct Train {
    recipe: Recipe,
    model: Model,
    precision: Precision,
    resume: Resume,
}

impl Job for Train {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        self.train::<Autodiff<B>>(device)
    }
}

impl Train {
    fn train<B: AutodiffBackend>(self, device: Device<B::InnerBackend>) -> Result<()> {
        let Self {
            recipe,
            model,
            precision,
            resume,
        } = self;
        let options = LoadOptions {
            config: model.config.map(|config| match recipe.resolve(&config) {
                file if file.is_file() => file.display().to_string(),
                _ => config, // the name of a preset
            }),
            precision,
            seed: recipe.run.seed,
            ..LoadOptions::default()
        };
        let pretrained = Pretrained::<B>::load(&model.name, &options, &device)?;
        let Method::Clip {
            loss,
            patch_dropout,
        } = recipe.section("method")?;
        if loss == ContrastiveLoss::Sigmoid && pretrained.model.logit_bias.is_none() {
            bail!("the sigmoid loss needs a model whose configuration has init_logit_bias");
        }
        let mut task = Contrastive::new(&pretrained);
        task.loss = loss;
        task.patch_dropout = (patch_dropout > 0.0).then_some(PatchDropout {
            prob: patch_dropout,
        });

        let data = recipe
            .section::<DataConfig>("data")?
            .relative_to(&recipe.resolve(""));
        let (source, sampler) = data.open(recipe.run.seed, 0, 1)?;
        let pairs = Pairs {
            augment: Augment::new(data.augment.clone(), pretrained.preprocess.config().size)?,
            tokenizer: pretrained.tokenizer.clone(),
            captions: data.captions,
        };
        let mut batches = pairs.batches(source, sampler, data.loader.clone());
        let outcome = run(Run {
            task: &task,
            model: pretrained.model,
            recipe: &recipe,
            batches: &mut batches,
            collective: &Single,
            validate: None,
            resume,
            device,
        })?;
        eprintln!(
            "{} steps in {:.0} s, {:.1} s of them waiting for data; see {}",
            outcome.progress.step,
            outcome.seconds,
            outcome.waited,
            recipe.resolve(&recipe.run.out).display()
        );
        Ok(())
    }
}
