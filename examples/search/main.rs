//! Images of a folder by words, or by a picture like them.

mod build;
mod find;

use anyhow::Result;
use clap::{Parser, Subcommand};
use clip_burn::cli::{ModelArgs, parse};
use clip_burn::eval::search::IndexModel;
use clip_burn::eval::{EvalError, TextEncoder};
use clip_burn::models::Model;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Search images by words or by a picture
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  cargo run --release --example search -- build --model models/mine --images photos/ --out index.safetensors
  cargo run --release --example search -- --index index.safetensors \"a red bicycle\" \"a dog in the snow\"
  cargo run --release --example search -- --index index.safetensors --image photo.jpg --top-k 20 --html found.html

Scores are cosines. All images are compared, none is passed over.")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    find: find::Find,
}

#[derive(Subcommand)]
enum Command {
    /// Images → an index; an index that is there is brought up to date
    Build(build::Build),
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<ExitCode> {
    let arguments: Arguments = parse();
    match arguments.command {
        Some(Command::Build(build)) => build.run(),
        None => arguments.find.run(),
    }
}

/// What an index remembers of a model.
fn index_model<B: burn::prelude::Backend>(
    arguments: &ModelArgs,
    model: &Model<B>,
) -> Result<IndexModel, EvalError> {
    let arguments = arguments.absolute();
    Ok(IndexModel {
        name: arguments.model,
        identity: model.identity()?,
        options: serde_json::to_value(&arguments.loading).unwrap_or_default(),
    })
}
