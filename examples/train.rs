//! Trains a model as a recipe says.

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{BackendArg, Job, check, with_backend};
use clip_burn::clip::Precision;
use clip_burn::methods;
use clip_burn::train::{ModelTable, Recipe, Resume};
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Train a model as a recipe says
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example train -- --recipe recipes/clip_vit_b_32.toml --set optimizer.lr=1e-3 --resume latest

Writes into the recipe's run.out: model/ (a model directory), checkpoints/, metrics.jsonl, TensorBoard events, log.txt,
recipe.toml (with all defaults) and report.html.")]
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
    /// flex, ndarray, wgpu, cuda[:N], tch, tch:cuda[:N] or tch:mps, as far as compiled in
    #[arg(long, default_value_t)]
    backend: BackendArg,
    /// f32 or bf16: dtype of the activations [default: the recipe's]
    #[arg(long)]
    precision: Option<Precision>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let precision = arguments.precision.map(|p| format!("model.precision={p}"));
    let overrides: Vec<_> = arguments.overrides.into_iter().chain(precision).collect();
    let recipe = Recipe::load(&arguments.recipe, &overrides)?;
    let precision = recipe.section::<ModelTable>("model")?.precision()?;
    check(arguments.backend, precision).map_err(anyhow::Error::msg)?;
    let resume = arguments.resume.as_deref().map_or(Resume::No, Resume::from);
    with_backend(arguments.backend, precision, Train { recipe, resume })
}

struct Train {
    recipe: Recipe,
    resume: Resume,
}

impl Job for Train {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self { recipe, resume } = self;
        let outcome = methods::train::<Autodiff<B>>(&recipe, resume, device)?;
        eprintln!(
            "{} steps in {:.0} s, {:.1} s of them waiting for data; see {}",
            outcome.progress.step,
            outcome.seconds,
            outcome.waited,
            recipe.out().display()
        );
        Ok(())
    }
}
