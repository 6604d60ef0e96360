//! Throughput of each stage between a file and an embedding, one line each.

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, image_paths};
use clip_burn::clip::preprocess::{Preprocess, PreprocessConfig, decode};
use clip_burn::clip::tokenizer::Tokenizer;
use clip_burn::clip::{LoadOptions, Pretrained};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Measure decoding, preprocessing, tokenizing and both encoders
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example throughput -- --images photos/ --models ViT-B-32 ViT-B-16

Each figure is the median of the repetitions. Models have random weights.")]
struct Arguments {
    /// Files, directories or .txt lists of paths; without them decoding is not measured
    #[arg(long, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Presets or model directories
    #[arg(long, num_args = 1.., default_values = ["ViT-B-32", "ViT-B-16"])]
    models: Vec<String>,
    /// Images or texts per forward pass
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Repetitions of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    #[command(flatten)]
    compute: ComputeArgs,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    arguments.compute.check()?;
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, Throughput(arguments))
}

struct Throughput(Arguments);

impl Job for Throughput {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(arguments) = self;
        let measure = |what: &str, count: usize, work: &mut dyn FnMut()| {
            work(); // caches, page faults, thread pool
            let mut seconds: Vec<f64> = (0..arguments.repeat)
                .map(|_| {
                    let start = Instant::now();
                    work();
                    start.elapsed().as_secs_f64()
                })
                .collect();
            seconds.sort_by(f64::total_cmp);
            println!(
                "{what:<44} {:>10.1} /s",
                count as f64 / seconds[seconds.len() / 2]
            );
        };

        let files: Vec<Vec<u8>> = image_paths(&arguments.images)?
            .iter()
            .map(std::fs::read)
            .collect::<Result<_, _>>()?;
        if !files.is_empty() {
            let preprocess = Preprocess::new(PreprocessConfig::default());
            measure(
                "decode and resize to 224, images, one core",
                files.len(),
                &mut || {
                    for image in files.iter().flat_map(|bytes| decode(bytes)) {
                        black_box(preprocess.apply(&image));
                    }
                },
            );
        }

        let texts: Vec<String> = (0..20_000)
            .map(|i| format!("a photo of {i} large brown dogs beside a river"))
            .collect();
        let tokenizer = Tokenizer::clip();
        measure("tokenize, texts, all cores", texts.len(), &mut || {
            black_box(tokenizer.batch(&texts).is_ok());
        });

        let batch = arguments.batch_size as usize;
        for model in &arguments.models {
            let options = LoadOptions {
                precision: arguments.compute.precision,
                ..LoadOptions::default()
            };
            let clip = Pretrained::<B>::load(model, &options, &device)?;
            let [height, width] = clip.preprocess.config().size;
            let image = Tensor::<B, 4>::ones([batch, 3, height, width], &device);
            measure(
                &format!("{model} encode_image, batch {batch}"),
                batch,
                &mut || {
                    black_box(clip.model.encode_image(image.clone()).into_data());
                },
            );
            let ids = clip
                .tokenizer
                .batch(&texts[..batch.min(texts.len())])?
                .to_tensor(&device);
            let count = ids.dims()[0];
            measure(
                &format!("{model} encode_text, batch {count}"),
                count,
                &mut || {
                    black_box(clip.model.encode_text(ids.clone()).into_data());
                },
            );
        }
        Ok(())
    }
}
