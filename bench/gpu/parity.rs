use crate::fixture::Fixture;
use crate::measure::{features, training, worst};
use anyhow::{Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip_burn::backend::BackendArg;
use clip_burn::cli::ComputeArgs;
use clip_burn::clip::Precision;
use clip_burn::train::trainer::sound;
use serde_json::json;

/// What TF32 leaves of f32.
const TF32: f64 = 2e-3;

#[derive(clap::Args)]
pub struct Arguments {
    /// Files in tests/fixtures/towers
    #[arg(long, num_args = 1.., default_values = ["base", "quick_gelu", "clipa", "vit_b_32_closed_form"])]
    models: Vec<String>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

pub fn run<B: Backend>(arguments: &Arguments, device: &B::Device) -> Result<()>
where
    Autodiff<B>: AutodiffBackend<InnerBackend = B>,
{
    let mut failed = Vec::new();
    for model in &arguments.models {
        let fixture = Fixture::read(model);
        let mut differences = features::<B>(&fixture, arguments.compute.precision, device);
        differences.extend(worst(training::<Autodiff<B>>(
            &fixture,
            arguments.compute.precision,
            device,
        )));
        sound::check()?;
        for difference in differences {
            let allowed = allowed(&arguments.compute, &fixture, &difference.quantity);
            let pass = f64::from(difference.largest) <= allowed;
            if !pass {
                failed.push(format!("{model} {}", difference.quantity));
            }
            let fields = json!({
                "model": model,
                "quantity": difference.quantity,
                "difference": difference.largest,
                "allowed": allowed,
                "pass": pass,
            });
            crate::report("parity", &arguments.compute, fields);
        }
    }
    if !failed.is_empty() {
        bail!("too far from the reference: {}", failed.join(", "));
    }
    Ok(())
}

/// Largest deviation that passes; in bf16 twice that of PyTorch's autocast on the same model. burn's CUDA kernels multiply
/// f32 as TF32, with 10 bits, in every build; so does LibTorch where it is told to, which it is not.
fn allowed(compute: &ComputeArgs, fixture: &Fixture, quantity: &str) -> f64 {
    match (compute.precision, quantity) {
        (Precision::F32, _) if matches!(compute.backend, BackendArg::Cuda(_)) => TF32,
        (Precision::F32, "loss") => 2e-5,
        (Precision::F32, _) => 1e-5,
        (Precision::Bf16, _) => 2.0 * f64::from(fixture.amp_bf16()[quantity]),
    }
}
