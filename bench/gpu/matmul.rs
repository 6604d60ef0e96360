use crate::time::{median, seconds};
use anyhow::Result;
use burn::prelude::*;
use burn::tensor::Distribution;
use clip_burn::cli::ComputeArgs;
use serde_json::json;

#[derive(clap::Args)]
pub struct Arguments {
    /// Rows and columns of both factors
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

pub fn run<B: Backend>(arguments: &Arguments, device: &B::Device) -> Result<()> {
    let n = arguments.size as usize;
    let random = || {
        Tensor::<B, 2>::random([n, n], Distribution::Default, device)
            .cast(arguments.compute.precision.compute())
    };
    let (a, b) = (random(), random());
    let mut times = Vec::new();
    for round in 0..25 {
        let (_, time) = seconds::<B, _>(device, || a.clone().matmul(b.clone()))?;
        if round >= 5 {
            times.push(time);
        }
    }
    let tflops = 2.0 * (n as f64).powi(3) / median(times) / 1e12;
    crate::report(
        "matmul",
        &arguments.compute,
        json!({"size": n, "tflops": tflops}),
    );
    Ok(())
}
