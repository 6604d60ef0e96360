//! What the examples share on the command line.

use crate::backend::{BackendArg, check, features};
use crate::models::{Model, is_random};
use anyhow::{Context, Result, bail};
use burn::prelude::Backend;
use clap::Args;
use clip::preprocess::{PixelBatch, Preprocess};
use clip::{LoadOptions, Precision};
use data::folder::is_image_name;
use eval::EvalError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Termination};
use train::{Launch, Start, Stop};

/// Runs a command: an error is one message on standard error, causes included, and the exit code 1.
///
/// The place where it arose is of no use to who typed the command; `CLIP_BURN_BACKTRACE=1` shows it, together with
/// `RUST_BACKTRACE=1`.
pub fn run<T: Termination>(command: impl FnOnce() -> Result<T>) -> ExitCode {
    let error = match command() {
        Ok(done) => return done.report(),
        Err(error) => error,
    };
    match std::env::var_os("CLIP_BURN_BACKTRACE") {
        Some(_) => eprintln!("error: {error:?}"),
        None => eprintln!("error: {}", message(&error)),
    }
    ExitCode::FAILURE
}

/// An error with its causes; a cause that the error already quotes is not said again.
fn message(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = in_flags(cause);
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said += &format!("\n  because: {cause}");
        }
    }
    said
}

/// What an error says; a field of the library's options that it names is called as on the command line.
pub fn in_flags(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref() {
        Some(EvalError::Option { option, reason }) => {
            let flag = |field: &str| match field.chars().all(char::is_uppercase) {
                true => field.to_string(), // a place, not an option
                false => format!("--{}", field.replace('_', "-")),
            };
            let flags: Vec<_> = option.split(", ").map(flag).collect();
            format!("{}: {reason}", flags.join(", "))
        }
        _ => error.to_string(),
    }
}

/// Where to compute.
#[derive(Debug, Clone, Args)]
pub struct ComputeArgs {
    /// flex, ndarray, wgpu, cuda, cuda:N, tch, tch:cuda, tch:cuda:N or tch:mps, as far as compiled in
    #[arg(long, default_value_t)]
    pub backend: BackendArg,
    /// f32 or bf16: dtype of the activations
    #[arg(long, default_value_t)]
    pub precision: Precision,
}

impl ComputeArgs {
    /// # Errors
    ///
    /// If the backend cannot be used here, or not in this precision.
    pub fn check(&self) -> Result<()> {
        check(self.backend, self.precision).map_err(anyhow::Error::msg)
    }
}

/// Says on standard error what nobody should overlook: a preset brings no weights.
pub fn warn_of_random(model: &str) {
    if is_random(model) {
        eprintln!(
            "WARNING: `{model}` is the name of an architecture, so its weights are RANDOM and every result is noise; \
             name a model directory, a checkpoint or hf-hub:ORG/NAME to use trained ones"
        );
    }
}

/// How a run of training is started.
#[derive(Debug, Clone, Args)]
pub struct LaunchArgs {
    /// Continues from `latest` or from a checkpoint's folder
    #[arg(long)]
    resume: Option<String>,
    /// With --resume: goes on though the recipe differs from the checkpoint's; the log says in what
    #[arg(long, requires = "resume")]
    accept_changes: bool,
    /// flex, ndarray, wgpu, cuda, cuda:N, tch, tch:cuda, tch:cuda:N or tch:mps, as far as compiled in
    #[arg(long, default_value_t)]
    pub backend: BackendArg,
}

impl LaunchArgs {
    /// As the engine wants it; SIGTERM and Ctrl-C end the run from here on.
    ///
    /// # Errors
    ///
    /// If the system refuses to hand over the signals.
    pub fn launch(&self) -> Result<Launch> {
        let resume = self.resume.as_deref();
        Ok(Launch {
            start: resume.map_or(Start::New, Start::from),
            accept_changes: self.accept_changes,
            stop: Stop::on_signals()?,
            features: features(),
        })
    }
}

/// Which model.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Model directory, checkpoint file (with --config), preset name (random weights) or hf-hub:ORG/NAME
    #[arg(long)]
    pub model: String,
    /// For a bare checkpoint file that is not LaCLIP's: its config (a JSON file in open_clip's schema, or a preset name)
    #[arg(long)]
    pub config: Option<String>,
    /// A tokenizer in place of the model's own: tokenizer.json, vocab.txt, or a folder with one of them
    #[arg(long)]
    pub tokenizer: Option<PathBuf>,
    /// Seed of random weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// For an LLM2CLIP model: the directory of its language model, in place of the one that the model names
    #[arg(long)]
    pub llm: Option<PathBuf>,
}

impl ModelArgs {
    /// Loads the model; says so where its weights are random.
    ///
    /// # Errors
    ///
    /// Says what the model was taken for, and what is missing or does not fit.
    pub fn load<B: Backend>(&self, precision: Precision, device: &B::Device) -> Result<Model<B>> {
        warn_of_random(&self.model);
        let options = self.options(precision);
        Model::load_with_llm(&self.model, &options, self.llm.as_deref(), device)
    }

    /// As the library wants it.
    pub fn options(&self, precision: Precision) -> LoadOptions {
        LoadOptions {
            config: self.config.clone(),
            tokenizer: self.tokenizer.clone(),
            precision,
            seed: self.seed,
            ..LoadOptions::default()
        }
    }
}

/// Refuses a path that could not be written, before any work is done for it.
///
/// # Errors
///
/// Names the path.
pub fn check_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        bail!("{}: a directory; name a file to write", path.display());
    }
    let mut trial = path.as_os_str().to_owned();
    trial.push(".partial");
    std::fs::File::create(&trial)
        .and_then(|_| std::fs::remove_file(&trial))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// A bar with count, rate and remaining time; silent where stderr is no terminal.
pub fn progress(len: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} ETA {eta}");
    let bar = ProgressBar::with_draw_target(Some(len as u64), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

/// Expands files, directories (walked recursively, sorted by path) and `.txt` lists of paths.
///
/// # Errors
///
/// Names the argument that leads nowhere, and a directory without images.
pub fn image_paths(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for argument in arguments {
        if argument.is_dir() {
            let mut found = Vec::new();
            walk(argument, &mut found)?;
            if found.is_empty() {
                bail!("{}: no images in this directory", argument.display());
            }
            found.sort();
            paths.append(&mut found);
        } else if argument
            .extension()
            .is_some_and(|extension| extension == "txt")
        {
            let folder = argument.parent().unwrap_or(Path::new(""));
            let lines = lines(argument)?;
            paths.extend(
                lines
                    .iter()
                    .filter(|line| !line.trim().is_empty())
                    .map(|line| folder.join(line)),
            );
        } else if argument.exists() {
            paths.push(argument.clone());
        } else {
            bail!("{}: no such file or directory", argument.display());
        }
    }
    Ok(paths)
}

/// Reads images for a model; those that cannot be read are named on standard error. Gives the paths of the others.
pub fn read_images<'a>(
    preprocess: &Preprocess,
    paths: &'a [PathBuf],
) -> (PixelBatch, Vec<&'a PathBuf>) {
    let (pixels, read) = preprocess.load_batch(paths);
    let mut good = Vec::new();
    for (path, read) in paths.iter().zip(read) {
        match read {
            Ok(()) => good.push(path),
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    (pixels, good)
}

/// The exit code of a command that leaves out images that cannot be read: 2 if there were any.
pub fn exit_code(unread: usize) -> ExitCode {
    match unread {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = folder
        .read_dir()
        .with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if is_image_name(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// The lines of a text file, `\n` or `\r\n` ended.
///
/// # Errors
///
/// Names the file if it cannot be read or is not UTF-8.
pub fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(str::to_string).collect())
}
