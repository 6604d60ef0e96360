//! Captions → rewrites, by a Llama that is shown three examples (LaCLIP).

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{
    Asked, ComputeArgs, DistArgs, Shard, Shares, check_writable, output, parse_or_merge, progress,
};
use clip_burn::clip::Precision;
use clip_burn::clip::local_directory;
use clip_burn::laclip::rewrite::{
    Empty, HEADER, LlamaWriter, Pool, Progress, PromptForm, Run, RunRecord, Settings, Summary,
    merge, run,
};
use clip_burn::llm::{Limits, LoadOptions, Pretrained, Sampling};
use indicatif::{HumanDuration, ProgressBar};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Rewrite every caption of a file with a Llama
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example rewrite -- --llm models/llama-7b --input captions.txt --output rewrites.txt --mode chatgpt
  cargo run --release --example rewrite -- --llm models/llama-7b --input captions.txt --output rewrites.txt --mode chatgpt \\
    --shard 2/4 --resume
  cargo run --release --example rewrite -- merge rewrites.txt

One pass per style gives one file per style; train with all of them. The output has exactly one line for every line of
the input. A run may be killed at any time: the same command with --resume goes on where it was. What it was begun with
is kept in OUTPUT.run.json, and --resume refuses other settings. With --shard the file is rewrites.shard-2-of-4.txt;
docs/scale-out.md has scripts for job arrays.")]
struct Arguments {
    /// Model directory of a Llama: Hugging Face's (config.json) or Meta's (params.json)
    #[arg(long)]
    llm: PathBuf,
    /// Captions, one per line, UTF-8
    #[arg(long)]
    input: PathBuf,
    /// The file to write: one rewrite per line, in the same order
    #[arg(long)]
    output: PathBuf,
    /// Style of the examples: chatgpt, bard, coco, human, or a JSON file of your own examples
    #[arg(long)]
    mode: String,
    /// Randomness; 0 always takes the most likely token
    #[arg(long, default_value_t = 0.9, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw among the most likely tokens that together have this probability
    #[arg(long, default_value_t = 0.95, allow_negative_numbers = true)]
    top_p: f64,
    /// Tokens of a prompt and its rewrite at most; longer captions lose their end
    #[arg(long, default_value_t = 400)]
    max_seq_len: usize,
    /// Tokens of a rewrite at most
    #[arg(long, default_value_t = 77)]
    max_gen_len: usize,
    /// Captions at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Seed of the examples and of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Rewrite share I of N of the lines only, I counted from 0, and put the share into the name of --output; `merge` puts
    /// them together
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Go on with an output that was begun before
    #[arg(long)]
    resume: bool,
    /// Layout of the prompt: compat (as released, lines indented by twelve spaces) or clean (not indented)
    #[arg(long, default_value_t)]
    prompt: PromptForm,
    /// First line of the prompt
    #[arg(long, default_value = HEADER)]
    header: String,
    /// In place of an empty rewrite: original (the caption itself) or blank (an empty line)
    #[arg(long, default_value_t)]
    on_empty: Empty,
    /// f32 or bf16: dtype of the weights in memory [default: that of --precision]
    #[arg(long)]
    weights: Option<Precision>,
    #[command(flatten)]
    dist: DistArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

fn main() -> ExitCode {
    clip_burn::cli::run(rewrite)
}

fn rewrite() -> Result<()> {
    let mut arguments: Arguments = match parse_or_merge() {
        Asked::Work(arguments) => arguments,
        Asked::Merge(whole) => return put_together(&whole),
    };
    let shares = arguments
        .dist
        .join(&mut arguments.shard, &mut arguments.compute)?;
    let whole = arguments.output.clone();
    shares.then(rewrite_share(arguments), || {
        put_together(&whole)?;
        Shares::remove(&whole, &[".run.json"]);
        Ok(())
    })
}

fn rewrite_share(mut arguments: Arguments) -> Result<()> {
    arguments.output = output(&arguments.output, arguments.shard);
    arguments.compute.check()?;
    let pool = Pool::open(&arguments.mode)?;
    check_writable(&arguments.output)?;
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, Rewrite(arguments, pool))
}

fn put_together(whole: &Path) -> Result<()> {
    check_writable(whole)?;
    let merged = merge(whole)?;
    eprintln!(
        "{}: {} lines of {} shares, which may be removed",
        whole.display(),
        merged.lines,
        merged.shares
    );
    Ok(())
}

struct Rewrite(Arguments, Pool);

impl Job for Rewrite {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(mut arguments, pool) = self;
        arguments.llm = local_directory(&arguments.llm.to_string_lossy())?;
        let precision = arguments.compute.precision;
        let options = LoadOptions {
            precision,
            weights: arguments.weights.unwrap_or(precision),
        };
        let sampling = Sampling {
            temperature: arguments.temperature,
            top_p: arguments.top_p,
        };
        let limits = Limits {
            max_gen_len: arguments.max_gen_len,
            max_seq_len: arguments.max_seq_len,
        };
        let config = Run {
            about: RunRecord::of_model(&arguments.llm, &options)?,
            input: arguments.input,
            output: arguments.output,
            shard: arguments.shard,
            settings: Settings {
                pool,
                header: arguments.header,
                form: arguments.prompt,
                sampling,
                limits,
                seed: arguments.seed,
                empty: arguments.on_empty,
            },
            batch_size: arguments.batch_size as usize,
            resume: arguments.resume,
        };
        let load = || {
            let start = Instant::now();
            let model = Pretrained::<B>::load(&arguments.llm, &options, &device)?;
            let millions = model.config.parameters() as f64 / 1e6;
            eprintln!(
                "{}: {millions:.1} M parameters, loaded in {:.1} s",
                arguments.llm.display(),
                start.elapsed().as_secs_f64()
            );
            Ok(LlamaWriter::new(model, sampling, limits))
        };
        let mut display = Display::new();
        let summary = run(&config, load, &mut |progress| display.show(progress))?;
        display.bar.finish_and_clear();
        tell(&summary, &config.output);
        Ok(())
    }
}

/// A bar on a terminal, a line now and then in a log.
struct Display {
    bar: ProgressBar,
    last: Option<Instant>,
}

/// Between two lines in a log.
const PAUSE: Duration = Duration::from_secs(30);

impl Display {
    fn new() -> Self {
        Self {
            bar: progress(0, "captions"),
            last: None,
        }
    }

    fn show(&mut self, progress: &Progress) {
        let tokens = format!("captions, {:.0} tokens/s", rate(progress.tokens, progress));
        self.bar.set_length(progress.total);
        if self.last.is_none() {
            self.bar.set_position(progress.done);
            self.bar.reset_eta(); // lines of earlier runs say nothing about the speed of this one
        }
        self.bar.set_position(progress.done);
        self.bar.set_message(tokens);
        let due = self.last.is_none_or(|last| last.elapsed() > PAUSE);
        if due && self.last.is_some() && !std::io::stderr().is_terminal() {
            let speed = rate(progress.done - progress.resumed, progress);
            let left = (progress.total - progress.done) as f64 / speed.max(1e-9);
            eprintln!(
                "{} of {} captions, {speed:.1} lines/s, {:.0} tokens/s, {} left",
                progress.done,
                progress.total,
                rate(progress.tokens, progress),
                HumanDuration(Duration::from_secs_f64(left.min(1e9)))
            );
        }
        if due {
            self.last = Some(Instant::now());
        }
    }
}

fn rate(count: u64, progress: &Progress) -> f64 {
    count as f64 / progress.elapsed.as_secs_f64().max(1e-9)
}

fn tell(summary: &Summary, output: &Path) {
    let progress = &summary.progress;
    let new = progress.done - progress.resumed;
    if new == 0 {
        eprintln!(
            "{}: all {} lines were there",
            output.display(),
            progress.total
        );
        return;
    }
    eprintln!(
        "{}: {} lines, {new} of them new, {:.1} lines/s, {:.0} tokens/s",
        output.display(),
        progress.total,
        rate(new, progress),
        rate(progress.tokens, progress)
    );
    for (what, count) in [
        (
            "captions too long for --max-seq-len, cut at their end",
            summary.shortened,
        ),
        ("blank captions, left blank", summary.blank),
        ("empty rewrites (see --on-empty)", summary.empty),
    ] {
        if count > 0 {
            eprintln!("  {what}: {count}");
        }
    }
}
