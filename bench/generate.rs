//! Speed of generation with a key-value cache, one line for each batch size.

use anyhow::{Context, Result};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::ComputeArgs;
use clip_burn::clip::Precision;
use clip_burn::llm::{GenerateOptions, LoadOptions, Pretrained, Prompt, Sampling, generate};
use std::path::PathBuf;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Measure how many tokens a Llama generates in a second
#[derive(Parser)]
#[command(after_help = "Example:
  python bench/generate/peer.py make target/llama-110m
  cargo run --release --example generate -- --llm target/llama-110m
  python bench/generate/peer.py run target/llama-110m

Prompts have equal length and arbitrary tokens; generation is greedy and never ends early.")]
struct Arguments {
    /// Model directory
    #[arg(long)]
    llm: PathBuf,
    /// Rows at a time
    #[arg(long, num_args = 1.., default_values_t = [1usize, 32])]
    batch_sizes: Vec<usize>,
    /// Tokens of every prompt
    #[arg(long, default_value_t = 128)]
    prompt: usize,
    /// New tokens per row
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// f32 or bf16: dtype of the weights in memory [default: that of --precision]
    #[arg(long)]
    weights: Option<Precision>,
    #[command(flatten)]
    compute: ComputeArgs,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    arguments.compute.check()?;
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, Generate(arguments))
}

struct Generate(Arguments);

impl Job for Generate {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(arguments) = self;
        let precision = arguments.compute.precision;
        let options = LoadOptions {
            precision,
            weights: arguments.weights.unwrap_or(precision),
        };
        let start = Instant::now();
        let llm = Pretrained::<B>::load(&arguments.llm, &options, &device)?;
        println!(
            "{:.1} M parameters, weights {}, loaded in {:.2} s, peak {}",
            llm.config.parameters() as f64 / 1e6,
            options.weights,
            start.elapsed().as_secs_f64(),
            peak().unwrap_or_else(|_| "unknown".into())
        );
        let time = |batch: usize, tokens: usize| -> Result<f64> {
            let vocab = llm.config.vocab_size;
            let row = |i: usize| (0..arguments.prompt).map(move |at| ((i + 7 * at) % vocab) as u32);
            let prompts: Vec<Prompt> = (0..batch)
                .map(|i| Prompt {
                    ids: row(i).collect(),
                    seed: 0,
                })
                .collect();
            let options = GenerateOptions {
                sampling: Sampling::GREEDY,
                max_gen_len: tokens,
                max_seq_len: usize::MAX,
                eos: &[],
                stop: &|_| false,
            };
            let start = Instant::now();
            generate(&llm.model, &prompts, &options, &device)?;
            Ok(start.elapsed().as_secs_f64())
        };
        for &batch in &arguments.batch_sizes {
            time(batch, 2)?; // page faults, thread pool
            let first = time(batch, 1)?;
            let all = time(batch, arguments.tokens)?;
            let step = (all - first) / (arguments.tokens - 1).max(1) as f64;
            println!(
                "batch {batch:>3}: prompt {first:.3} s, then {:.1} ms a step, {:.1} tokens/s; peak {}",
                1e3 * step,
                batch as f64 / step,
                peak().unwrap_or_else(|_| "unknown".into())
            );
        }
        Ok(())
    }
}

/// Largest resident memory of this process so far (Linux).
fn peak() -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmHWM")?
        .parse()?;
    Ok(format!("{:.0} MiB", kib / 1024.0))
}
