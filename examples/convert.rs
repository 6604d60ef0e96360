//! A checkpoint of any known naming scheme → a model directory that open_clip loads.

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::{Parser, ValueEnum};
use clip_burn::backend::{BackendArg, Job, with_backend};
use clip_burn::cli::{parse, warn_of_random};
use clip_burn::clip::checkpoint::WeightType;
use clip_burn::clip::{LoadOptions, Precision, Pretrained};
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Convert a checkpoint into a model directory
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example convert -- --from checkpoint.pt --config ViT-B-32 --out models/mine

Reads open_clip and OpenAI checkpoints (safetensors, .pt, .bin, TorchScript), Hugging Face CLIPModel directories,
SLIP and LaCLIP checkpoints. In Python: open_clip.create_model('local-dir:models/mine').")]
struct Arguments {
    /// A checkpoint file, a model directory or hf-hub:ORG/NAME
    #[arg(long)]
    from: String,
    /// For a bare checkpoint file that is not LaCLIP's: its config (a JSON file in open_clip's schema, or a preset name)
    #[arg(long)]
    config: Option<String>,
    /// The directory to write; must not exist or be empty
    #[arg(long)]
    out: PathBuf,
    /// Type of the weights that are written
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

impl From<Dtype> for WeightType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
        }
    }
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<()> {
    // No device is needed to rename tensors.
    let cpu = "flex".parse().unwrap_or(BackendArg::default());
    with_backend(cpu, Precision::F32, Convert(parse()))
}

struct Convert(Arguments);

impl Job for Convert {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(arguments) = self;
        let options = LoadOptions {
            config: arguments.config,
            ..LoadOptions::default()
        };
        warn_of_random(&arguments.from);
        let clip = Pretrained::<B>::load(&arguments.from, &options, &device)?;
        clip.save_as(&arguments.out, arguments.dtype.into())?;
        println!(
            "wrote {} ({} parameters)",
            arguments.out.display(),
            clip.model.num_params()
        );
        Ok(())
    }
}
