//! Captions of images, by a model with a captioner.

use anyhow::{Context, Result};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, ModelArgs, exit_code, image_paths, parse, read_images};
use clip_burn::eval::DualEncoder;
use clip_burn::llm::Sampling;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Say what images show (CLIPS)
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example caption -- --model runs/scenes_clips/model --images photos/

The model is a directory that training with [method.captioner] has written. Without --web-caption the captioner reads an empty
one; it was trained with the captions of the web beside the images, so a sentence about the image helps.

Exit code 2: some images could not be read; they are named on stderr and left out.")]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Files, directories (walked recursively, sorted by path) or .txt lists of paths
    #[arg(long, num_args = 1.., required = true)]
    images: Vec<PathBuf>,
    /// A caption that the model reads beside every image
    #[arg(long, default_value = "")]
    web_caption: String,
    /// 0 takes the most likely word, more draws more freely
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Draws among the most likely words that together have this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// One JSON object per image in place of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<ExitCode> {
    let arguments: Arguments = parse();
    arguments.compute.check()?;
    arguments.sampling().check()?;
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, Caption(arguments))
}

impl Arguments {
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
        }
    }
}

/// Images at a time.
const BATCH: usize = 16;

struct Caption(Arguments);

impl Job for Caption {
    type Out = Result<ExitCode>;

    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(arguments) = self;
        let paths = image_paths(&arguments.images)?;
        let model = arguments
            .model
            .load::<B>(arguments.compute.precision, &device)?;
        let captioner = model
            .captioner()
            .with_context(|| arguments.model.model.clone())?;
        let (mut unread, mut seed) = (0, arguments.model.loading.seed);
        for paths in paths.chunks(BATCH) {
            let (pixels, good) = read_images(model.preprocess(), paths);
            unread += paths.len() - good.len();
            if good.is_empty() {
                continue;
            }
            let pixels = pixels.to_tensor(model.preprocess().config(), &device);
            let web = vec![arguments.web_caption.clone(); good.len()];
            let captions = captioner.captions(pixels, &web, arguments.sampling(), seed)?;
            seed += good.len() as u64;
            for (path, caption) in good.iter().zip(captions) {
                match arguments.json {
                    true => println!("{}", json!({ "image": path, "caption": caption })),
                    false => println!("{}: {caption}", path.display()),
                }
            }
        }
        Ok(exit_code(unread))
    }
}
