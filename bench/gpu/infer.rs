use crate::time::median;
use anyhow::Result;
use burn::prelude::*;
use burn::tensor::Distribution;
use clip_burn::cli::ComputeArgs;
use clip_burn::clip::{LoadOptions, Pretrained};
use clip_burn::train::trainer::sound;
use serde_json::json;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Arguments {
    /// Preset or model directory
    #[arg(long, default_value = "ViT-B-32")]
    model: String,
    /// Images per call
    #[arg(long, num_args = 1.., default_values_t = [1, 32, 256])]
    batch_size: Vec<usize>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

pub fn run<B: Backend>(arguments: &Arguments, device: &B::Device) -> Result<()> {
    let options = LoadOptions {
        precision: arguments.compute.precision,
        ..LoadOptions::default()
    };
    let clip = Pretrained::<B>::load(&arguments.model, &options, device)?;
    let [height, width] = clip.preprocess.config().size;
    for &batch in &arguments.batch_size {
        let shape = [batch, 3, height, width];
        let images = Tensor::<B, 4>::random(shape, Distribution::Default, device);
        let mut times = Vec::new();
        for round in 0..25 {
            let start = Instant::now();
            let features = clip.model.encode_image(images.clone()).try_into_data();
            sound::check()?;
            features.map_err(|e| anyhow::anyhow!("the device failed: {e}"))?;
            if round >= 5 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let time = median(times);
        let fields = json!({
            "model": arguments.model,
            "batch": batch,
            "images_per_s": batch as f64 / time,
            "batch_ms": 1e3 * time,
        });
        crate::report("infer", &arguments.compute, fields);
    }
    Ok(())
}
