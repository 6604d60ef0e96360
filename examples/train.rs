//! Trains a model as a recipe says.

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, check, with_backend};
use clip_burn::cli::{LaunchArgs, direct, parse};
use clip_burn::clip::Precision;
use clip_burn::methods;
use clip_burn::train::{Launch, Recipe};
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Train a model as a recipe says
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example train -- --recipe recipes/clip_vit_b_32.toml --set optimizer.lr=1e-3 --resume latest
  mpirun -n 8 target/release/examples/train --dist mpi --recipe recipes/clip_vit_b_32.toml    (built with --features mpi)

Writes into the recipe's run.out: model/ (a model directory), checkpoints/, metrics.jsonl, TensorBoard events, log.txt,
recipe.toml (with all defaults and paths) and report.html. SIGTERM or Ctrl-C ends a run after its current step with a
checkpoint; a second one ends it at once.")]
struct Arguments {
    /// The recipe, a TOML file
    #[arg(long)]
    recipe: PathBuf,
    /// Overrides a field of the recipe: table.field=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    launch: LaunchArgs,
    /// f32 or bf16: dtype of the activations [default: the recipe's]
    #[arg(long)]
    precision: Option<Precision>,
}

fn main() -> ExitCode {
    clip_burn::cli::run(train)
}

fn train() -> Result<()> {
    let mut arguments: Arguments = parse();
    let precision = arguments.precision.map(|p| format!("model.precision={p}"));
    let overrides: Vec<_> = arguments.overrides.into_iter().chain(precision).collect();
    let recipe = Recipe::load(&arguments.recipe, &overrides)?;
    let precision: Precision = recipe.precision().parse().map_err(anyhow::Error::msg)?;
    let launch = arguments.launch.launch()?;
    check(arguments.launch.backend, precision).map_err(anyhow::Error::msg)?;
    with_backend(
        arguments.launch.backend,
        precision,
        Train { recipe, launch },
    )
}

struct Train {
    recipe: Recipe,
    launch: Launch,
}

impl Job for Train {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self { recipe, mut launch } = self;
        launch.direct = direct::<B>(&launch.world, &device)?;
        let (out, world) = (recipe.out(), launch.world.clone());
        let outcome = methods::train::<Autodiff<B>>(recipe, &launch, device)?;
        if world.rank() > 0 {
            return Ok(());
        }
        let exchanging = match world.size() {
            1 => String::new(),
            _ => format!(", {:.1} s exchanging", world.spent().as_secs_f64()),
        };
        eprintln!(
            "{} steps in {:.0} s, {:.1} s of them waiting for data{exchanging}; see {}",
            outcome.progress.step,
            outcome.seconds,
            outcome.waited,
            out.display()
        );
        if outcome.stopped {
            eprintln!("stopped before its end; --resume latest goes on from there");
        }
        Ok(())
    }
}
