//! Probabilities of given labels for given images.

use anyhow::{Context, Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, ModelArgs, exit_code, image_paths, lines, parse, read_images};
use clip_burn::eval::{DualEncoder, TextEncoder};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Classify images among labels that you choose
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example classify -- --model models/mine --images cat.jpg --labels \"a diagram\" \"a dog\" \"a cat\"

Exit code 2: some images could not be read; they are named on stderr and left out.")]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Files, directories (walked recursively, sorted by path) or .txt lists of paths
    #[arg(long, num_args = 1.., required = true)]
    images: Vec<PathBuf>,
    /// The labels to choose from; FILE.txt stands for its lines
    #[arg(long, num_args = 1.., required = true)]
    labels: Vec<String>,
    /// A sentence around each label, with {} or {c} in its place
    #[arg(long, default_value = "{}")]
    template: String,
    /// One JSON object per image in place of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<ExitCode> {
    let mut arguments: Arguments = parse();
    arguments.compute.check()?;
    if !PLACES
        .iter()
        .any(|place| arguments.template.contains(place))
    {
        bail!(
            "--template `{}` has no {{}} for the label",
            arguments.template
        );
    }
    arguments.labels = labels(&arguments.labels)?;
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, Classify(arguments))
}

/// What a template has in the label's place; the second is CLIP_benchmark's.
const PLACES: [&str; 2] = ["{}", "{c}"];

/// Files among the labels stand for their lines.
fn labels(arguments: &[String]) -> Result<Vec<String>> {
    let mut labels = Vec::new();
    for argument in arguments {
        if argument.ends_with(".txt") {
            let lines = lines(argument.as_ref()).context("--labels")?;
            labels.extend(lines.into_iter().filter(|line| !line.trim().is_empty()));
        } else {
            labels.push(argument.clone());
        }
    }
    if labels.is_empty() {
        bail!("--labels: the files hold no label, one per line");
    }
    Ok(labels)
}

/// Images at a time.
const BATCH: usize = 32;

struct Classify(Arguments);

impl Job for Classify {
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
        let texts: Vec<_> = arguments
            .labels
            .iter()
            .map(|label| {
                let sentence = |text: String, place| text.replace(place, label);
                PLACES
                    .into_iter()
                    .fold(arguments.template.clone(), sentence)
            })
            .collect();
        let text = model.encode_texts(&texts)?;

        let mut unread = 0;
        for paths in paths.chunks(BATCH) {
            let (pixels, good) = read_images(model.preprocess(), paths);
            unread += paths.len() - good.len();
            if good.is_empty() {
                continue;
            }
            let pixels = pixels.to_tensor(model.preprocess().config(), &device);
            let probabilities = model.probabilities(model.encode_images(pixels), text.clone());
            let probabilities = probabilities.into_data().convert::<f32>();
            let probabilities = probabilities.into_vec::<f32>().expect("converted to f32");
            for (path, row) in good
                .iter()
                .zip(probabilities.chunks(arguments.labels.len()))
            {
                print_row(
                    &path.display().to_string(),
                    &arguments.labels,
                    row,
                    arguments.json,
                );
            }
        }
        Ok(exit_code(unread))
    }
}

fn print_row(path: &str, labels: &[String], probabilities: &[f32], as_json: bool) {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    if as_json {
        let scores: Vec<_> = order
            .iter()
            .map(|i| json!({ "label": labels[*i], "probability": probabilities[*i] }))
            .collect();
        println!("{}", json!({ "image": path, "scores": scores }));
        return;
    }
    println!("{path}");
    for i in order {
        println!("  {:6.2} %  {}", 100.0 * probabilities[i], labels[i]);
    }
}
