//! Parity with the reference and speed on a backend, one JSON object per line.
//!
//! `bench/gpu/run.sh` runs it together with PyTorch, `bench/gpu/report.py` makes tables of both.

mod infer;
mod matmul;
mod memory;
mod parity;
mod time;
mod train;

#[allow(dead_code)] // the tests use more of these three
#[path = "../../tests/parity/closed_form.rs"]
mod closed_form;
#[allow(dead_code)]
#[path = "../../tests/parity/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "../../tests/parity/measure.rs"]
mod measure;

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::{Parser, Subcommand};
use clip_burn::backend::{BackendArg, Job, kernels, with_backend};
use clip_burn::cli::ComputeArgs;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Parity and speed of a backend, as JSON lines
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --features cuda --example gpu -- train --model ViT-B-32 --batch-size 256 --precision bf16")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Features, losses, gradients and three optimizer steps beside the reference's
    Parity(parity::Arguments),
    /// Samples per second of training, and where a step spends its time
    Train(train::Arguments),
    /// Images per second of encode_image
    Infer(infer::Arguments),
    /// What the device gives for one large matrix product: the ceiling of the other figures
    Matmul(matmul::Arguments),
}

fn main() -> Result<()> {
    let what = Arguments::parse().what;
    let compute = what.compute().clone();
    compute.check()?;
    with_backend(compute.backend, compute.precision, what)
}

impl What {
    fn compute(&self) -> &ComputeArgs {
        match self {
            Self::Parity(arguments) => &arguments.compute,
            Self::Train(arguments) => &arguments.compute,
            Self::Infer(arguments) => &arguments.compute,
            Self::Matmul(arguments) => &arguments.compute,
        }
    }
}

impl Job for What {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        match self {
            Self::Parity(arguments) => parity::run::<B>(&arguments, &device),
            Self::Train(arguments) => train::run::<Autodiff<B>>(&arguments, &device),
            Self::Infer(arguments) => infer::run::<B>(&arguments, &device),
            Self::Matmul(arguments) => matmul::run::<B>(&arguments, &device),
        }
    }
}

/// Prints one measurement.
fn report(what: &str, compute: &ComputeArgs, fields: Value) {
    let build = match compute.backend {
        BackendArg::Tch(_) => "libtorch".to_string(),
        backend => kernels(backend),
    };
    let mut line = json!({
        "what": what,
        "side": "clip-burn",
        "backend": compute.backend.to_string(),
        "build": build,
        "precision": compute.precision.to_string(),
    });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    println!("{line}");
}
