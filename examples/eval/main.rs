//! Zero-shot classification, retrieval, probes, choice among captions; tables and reports of their results.

mod caption;
mod caption_retrieval;
mod choice;
mod data;
mod fetch;
mod grid;
mod probe;
mod retrieval;
mod stored;
mod zero_shot;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use clip_burn::cli::parse;
use clip_burn::eval::report::{self, Pictures};
use clip_burn::eval::results::{RunResult, load_all, save_csv};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Evaluate CLIP models as CLIP_benchmark does
#[derive(Parser)]
#[command(after_help = "Examples:
  eval zero-shot --model hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K --dataset imagenet --root imagenet/ --output in.json
  eval retrieval --model model/ --format karpathy --annotations dataset_coco.json --images coco/ --output coco.json
  eval linear-probe --model model/ --dataset wds/cifar10 --root 'data/wds_{dataset}' --fewshot-k 16
  eval zero-shot --model model/ --dataset vtab+ --root data/ --output 'results/{dataset}.json'
  eval fetch imagenet_robustness
  eval build results/ --output table.csv
  eval report results/ --output report.html
--model, --dataset and --language take lists (a,b or FILE.txt); every combination is one run and one file.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Classify images by prompts made of class names
    ZeroShot(zero_shot::ZeroShot),
    /// Find images by caption and captions by image
    Retrieval(retrieval::Retrieval),
    /// Classify frozen image embeddings: a linear layer, or the nearest training images
    LinearProbe(probe::Probe),
    /// Choose the right caption among similar ones: SugarCrepe, Winoground
    Choice(choice::Choice),
    /// Have images captioned: BLEU-4, CIDEr-D and token accuracy
    Caption(caption::Caption),
    /// Find captions by other captions of the same image: how well texts are told apart
    CaptionRetrieval(caption_retrieval::CaptionRetrieval),
    /// Print the commands that get a data set or a collection; nothing is downloaded
    Fetch(fetch::Fetch),
    /// Result files → one CSV
    Build {
        #[command(flatten)]
        results: Results,
        /// CSV to write
        #[arg(long, default_value = "benchmark.csv")]
        output: PathBuf,
    },
    /// Result files → one HTML page
    Report {
        #[command(flatten)]
        results: Results,
        /// Page to write
        #[arg(long, default_value = "report.html")]
        output: PathBuf,
        /// Folders whose pictures the page may show; results name files by path, and can come from anyone
        #[arg(long, num_args = 1.., default_value = ".")]
        images: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct Results {
    /// Result files, or folders of them
    #[arg(required = true)]
    results: Vec<PathBuf>,
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<ExitCode> {
    match parse::<Arguments>().command {
        Command::Fetch(fetch) => fetch.run(),
        Command::Build { results, output } => {
            let (results, _) = results.load()?;
            save_csv(&results, &output)?;
            written(&results, &output)
        }
        Command::Report {
            results,
            output,
            images,
        } => {
            let (results, left_out) = results.load()?;
            let pictures = Pictures::below(&images).context("--images")?;
            for folder in pictures.hidden(&results) {
                let folder = folder.display();
                eprintln!("not shown: pictures in {folder}; give --images {folder}");
            }
            report::save_report(&results, &left_out, &pictures, &output)?;
            written(&results, &output)
        }
        Command::ZeroShot(task) => match task.of_features() {
            Some(done) => done,
            None => grid::on_backend(task),
        },
        Command::Retrieval(task) => match task.of_features() {
            Some(done) => done,
            None => grid::on_backend(task),
        },
        Command::LinearProbe(task) => grid::on_backend(task),
        Command::Choice(task) => grid::on_backend(task),
        Command::Caption(task) => grid::on_backend(task),
        Command::CaptionRetrieval(task) => grid::on_backend(task),
    }
}

impl Results {
    /// All results, and why files in the folders are none.
    fn load(&self) -> Result<(Vec<RunResult>, Vec<String>)> {
        let (results, left_out) = load_all(&self.results)?;
        for reason in &left_out {
            eprintln!("left out: {reason}");
        }
        Ok((results, left_out))
    }
}

fn written(results: &[RunResult], output: &Path) -> Result<ExitCode> {
    let plural = if results.len() == 1 { "" } else { "s" };
    println!("{}: {} result{plural}", output.display(), results.len());
    Ok(ExitCode::SUCCESS)
}
