//! Trains or tunes a language model for LLM2CLIP.

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, check, with_backend};
use clip_burn::cli::{LaunchArgs, direct, parse};
use clip_burn::clip::Precision;
use clip_burn::llm2clip::stage1::{Plan, STAGES, Summary};
use clip_burn::train::Launch;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Train or tune a language model for LLM2CLIP (stage 1)
#[derive(Parser)]
#[command(after_help = "Example:
  tune_llm --recipe llm2clip/recipes/stage1_scenes.toml --set contrastive.run.steps=50

The recipe has a table for each stage: lm (a small Llama from scratch), mntp (masked next-token prediction), contrastive.
Each writes into its run.out: model/ (lm: the language model; else a PEFT adapter), llm/ (the language model with the adapter
merged), checkpoints/, metrics.jsonl and what else `train` writes.")]
struct Arguments {
    /// The recipe, a TOML file of stages
    #[arg(long)]
    recipe: PathBuf,
    /// Which stages, joined by commas [default: all of the file]
    #[arg(long, value_delimiter = ',')]
    stages: Vec<String>,
    /// Overrides a field of the recipe: stage.table.field=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    launch: LaunchArgs,
}

fn main() -> ExitCode {
    clip_burn::cli::run(tune)
}

fn tune() -> Result<()> {
    let mut arguments: Arguments = parse();
    let launch = arguments.launch.launch()?;
    let plan = Plan::load(&arguments.recipe, &arguments.overrides, &arguments.stages)?;
    let mut precision = Precision::F32;
    for (_, recipe) in &plan.0 {
        precision = recipe.precision().parse().map_err(anyhow::Error::msg)?;
        check(arguments.launch.backend, precision).map_err(anyhow::Error::msg)?;
    }
    with_backend(arguments.launch.backend, precision, Tune { plan, launch })
}

struct Tune {
    plan: Plan,
    launch: Launch,
}

impl Job for Tune {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self { plan, mut launch } = self;
        launch.direct = direct::<B>(&launch.world, &device)?;
        plan.run::<Autodiff<B>>(&launch, &device, &mut |summary| {
            if launch.world.rank() == 0 {
                report(summary);
            }
        })?;
        Ok(())
    }
}

fn report(summary: &Summary) {
    let (name, _) = STAGES
        .iter()
        .find(|(_, stage)| *stage == summary.stage)
        .expect("all are listed");
    eprint!(
        "{name}: {} steps in {:.0} s",
        summary.steps, summary.seconds
    );
    if let Some([before, after]) = summary.captions {
        eprint!(
            ", caption to caption {:.1} % → {:.1} %",
            100.0 * before,
            100.0 * after
        );
    }
    match &summary.llm {
        Some(path) => eprintln!("; see {}", path.display()),
        None => eprintln!("; stopped, --resume latest goes on"),
    }
}
