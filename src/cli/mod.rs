//! What the examples share on the command line.

mod arguments;
mod dist;
mod elsewhere;
mod images;
mod shards;

pub use arguments::{ComputeArgs, LaunchArgs, LoadArgs, ModelArgs, warn_of_random};
pub use dist::{DistArgs, Shares, direct};
pub use elsewhere::parse;
pub use files::Shard;
pub use images::{exit_code, image_paths, read_images};
pub use shards::{Asked, output, parse_or_merge};

use anyhow::{Context, Result, bail};
use eval::EvalError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::Path;
use std::process::{ExitCode, Termination};
use train::{Remedy, TrainError};

/// Runs a command: an error is one message on standard error, causes included, and the exit code 1.
///
/// The place where it arose is of no use to who typed the command; `CLIP_BURN_BACKTRACE=1` shows it, together with
/// `RUST_BACKTRACE=1`.
pub fn run<T: Termination>(command: impl FnOnce() -> Result<T>) -> ExitCode {
    let error = match command() {
        Ok(done) => {
            dist::leave(true);
            return done.report();
        }
        Err(error) => error,
    };
    match std::env::var_os("CLIP_BURN_BACKTRACE") {
        Some(_) => eprintln!("error: {error:?}"),
        None => eprintln!("error: {}", message(&error)),
    }
    dist::leave(false);
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

/// What an error says; options of the library that it names are called as on the command line.
pub fn in_flags(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some((option, reason)) = option(error) {
        let flag = |field: &str| match field.chars().all(char::is_uppercase) {
            true => field.to_string(), // a place, not an option
            false => format!("--{}", field.replace('_', "-")),
        };
        let flags: Vec<_> = option.split(", ").map(flag).collect();
        return format!("{}: {reason}", flags.join(", "));
    }
    if let Some(EvalError::BadImages { .. }) = error.downcast_ref() {
        return error.to_string().replace("max_bad", "--max-bad");
    }
    match error.downcast_ref().and_then(TrainError::remedy) {
        Some(remedy) => format!("{error} ({})", launch_flags(remedy)),
        None => error.to_string(),
    }
}

/// The option that an error of any of the libraries is about, and what is wrong with it.
fn option<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<(&'a str, &'a str)> {
    if let Some(EvalError::Option { option, reason }) = error.downcast_ref() {
        return Some((option, reason));
    }
    let of_method = error.downcast_ref().and_then(laclip::Error::option);
    let of_llm = || match error.downcast_ref()? {
        clips::Error::Sampling(error) => error.option(),
        _ => None,
    };
    of_method
        .or_else(|| error.downcast_ref().and_then(llm::Error::option))
        .or_else(of_llm)
}

/// How the command is started that gets past an error of training.
fn launch_flags(remedy: Remedy) -> String {
    let set = remedy.set.map(|set| format!("--set {set}"));
    let flags = [
        remedy.resume.then_some("--resume latest"),
        remedy.accept_changes.then_some("--accept-changes"),
        set.as_deref(),
    ];
    flags.into_iter().flatten().collect::<Vec<_>>().join(" ")
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
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .map(drop)
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// A bar with count, rate and remaining time; silent where stderr is no terminal.
pub fn progress(len: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} ETA {eta}");
    let bar = ProgressBar::with_draw_target(Some(len as u64), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
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
