use crate::fixture::Fixture;
use crate::measure::{Difference, features, training};
use anyhow::{Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip_burn::cli::ComputeArgs;
use clip_burn::clip::Precision;
use clip_burn::train::fault;
use serde_json::json;
use std::collections::BTreeMap;

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
        fault::check()?;
        for difference in differences {
            let allowed = allowed(arguments.compute.precision, &difference.quantity);
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

/// Largest deviation that passes. In bf16 it is twice that of PyTorch's autocast from f64 on ViT-B/32, which
/// `tests/reference/vit_b_32.py` measures.
fn allowed(precision: Precision, quantity: &str) -> f64 {
    match (precision, quantity) {
        (Precision::F32, "loss") => 2e-5,
        (Precision::F32, _) => 1e-5,
        (Precision::Bf16, "loss") => 4e-3,
        (Precision::Bf16, "gradient") => 0.25,
        (Precision::Bf16, _) => 2e-2,
    }
}

/// The worst of the differences whose quantities have the same first word.
fn worst(differences: Vec<Difference>) -> Vec<Difference> {
    let mut worst = BTreeMap::<String, f32>::new();
    for difference in differences {
        let kind = difference.quantity.split([' ', '.']).next().unwrap_or("");
        let largest = worst.entry(kind.to_string()).or_default();
        *largest = largest.max(difference.largest);
    }
    worst
        .into_iter()
        .map(|(quantity, largest)| Difference { quantity, largest })
        .collect()
}
