//! A whole run: from a recipe to a trained model on disk, with logs, validations and checkpoints.

use super::Trainer;
use super::collective::{Collective, Flags};
use super::hooks::{Hook, Logging, Saving, Validating};
use super::launch::Launch;
use super::step::together;
use super::task::{Task, Trained};
use crate::checkpoint::Progress;
use crate::error::{BoxError, Result, TrainError};
use crate::feed::Batches;
use crate::logs::{Entry, Listener, Logs, report};
use crate::recipe::Recipe;
use burn::tensor::backend::AutodiffBackend;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use super::hooks::Validate;

/// Everything a run is made of.
pub struct Run<'a, B: AutodiffBackend, T: Task<B>> {
    /// The method.
    pub task: &'a T,
    /// The model to start from; a resumed run takes over what is not trained.
    pub model: T::Model,
    /// The recipe, resolved.
    pub recipe: &'a Recipe,
    /// Where batches come from.
    pub batches: &'a mut dyn Batches<T::Batch>,
    /// The other replicas.
    pub collective: &'a dyn Collective<B::InnerBackend>,
    /// Rates the model as it will be written.
    pub validate: Option<Validate<'a, T::Trained>>,
    /// Where to continue, and what may end the run early.
    pub launch: &'a Launch,
    /// Where to compute.
    pub device: B::Device,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Outcome<M> {
    /// The trained model.
    pub model: M,
    /// The model with averaged weights, if the recipe asks for them.
    pub ema: Option<M>,
    /// Counters and last metrics.
    pub progress: Progress,
    /// True if the run was stopped before its last step; it can be resumed.
    pub stopped: bool,
    /// Seconds this process trained for.
    pub seconds: f64,
    /// Seconds of these in which the device waited for data.
    pub waited: f64,
}

impl<M> Outcome<M> {
    /// The same outcome with its models in another form.
    pub fn map<N>(self, form: impl Fn(M) -> N) -> Outcome<N> {
        Outcome {
            model: form(self.model),
            ema: self.ema.map(form),
            progress: self.progress,
            stopped: self.stopped,
            seconds: self.seconds,
            waited: self.waited,
        }
    }
}

/// Trains a model as the recipe says. At the end of the last step the first replica writes it into `model` in the run's
/// folder, and that of averaged weights, if there are any, into `model_ema`.
///
/// # Errors
///
/// When the recipe does not fit the data or the model, when a checkpoint cannot be resumed or the last one
/// cannot be written, when the data ends, when too many steps were not finite, and when another process trains in the
/// same folder.
pub fn run<B: AutodiffBackend, T: Task<B>>(run: Run<'_, B, T>) -> Result<Outcome<T::Trained>> {
    let Run {
        task,
        model,
        recipe,
        batches,
        collective,
        validate,
        launch,
        device,
    } = run;
    if let (None, Some(best)) = (&validate, &recipe.checkpoint.best) {
        return Err(TrainError::Config(format!(
            "checkpoint.best = \"{best}\", but nothing is validated: add [[validation.zero_shot]] or \
             [[validation.retrieval]], or remove checkpoint.best"
        )));
    }
    let chief = collective.rank() == 0;
    let mut trainer = Trainer::new(task, model, recipe, batches, &device)?.among(collective);
    // A run that is refused leaves no folder behind.
    let there = chief && recipe.out().exists();
    let held = there.then(|| lock(&recipe.out())).transpose();
    let mut held = together(held, collective)?;
    trainer.start(launch)?;
    let opened = match chief {
        true => open(&mut trainer, &mut held),
        false => Ok(()),
    };
    together(opened, collective)?;
    if !chief {
        trainer.listen(Box::new(Aside::new(&recipe.out(), collective.rank())));
    }
    let mut validating = validate.map(|validate| Validating { validate });
    let start = Instant::now();
    let stopped = train(&mut trainer, validating.as_mut(), launch);
    let stopped = stopped.inspect_err(|error| trainer.note(error.to_string()))?;

    let outcome = Outcome {
        model: trainer.trained(),
        ema: trainer.averaged(),
        progress: trainer.progress().clone(),
        stopped,
        seconds: start.elapsed().as_secs_f64(),
        waited: trainer.waited().as_secs_f64(),
    };
    let written = match chief && !stopped {
        true => write_all(&outcome, &recipe.out()),
        false => Ok(()),
    };
    // Nobody goes on to what comes next before the model is there.
    together(written, collective)?;
    // What was trained is safe by now: a report that fails is no reason to call it lost.
    if chief
        && !stopped
        && let Err(error) = report::write_run(recipe)
    {
        trainer.note(format!("the report could not be written: {error}"));
    }
    drop(held);
    Ok(outcome)
}

fn write_all<M: Trained>(outcome: &Outcome<M>, out: &Path) -> Result<()> {
    write(&outcome.model, &out.join(MODEL))?;
    match &outcome.ema {
        Some(ema) => write(ema, &out.join(MODEL_EMA)),
        None => Ok(()),
    }
}

/// What the first replica prepares in the run's folder, which it holds from here on.
fn open<B: AutodiffBackend, T: Task<B>>(
    trainer: &mut Trainer<'_, B, T>,
    held: &mut Option<File>,
) -> Result<()> {
    let recipe = trainer.recipe();
    if held.is_none() {
        *held = Some(lock(&recipe.out())?);
    }
    for name in [MODEL, MODEL_EMA] {
        clean(&recipe.out().join(name))?;
    }
    let (total, done) = (trainer.total(), trainer.progress().step);
    let logs = Logs::open(&recipe.out(), &recipe.log, total, done)?;
    let path = recipe.out().join("recipe.toml");
    files::write(&path, recipe.to_toml().as_bytes()).map_err(TrainError::io(&path))?;
    trainer.listen(Box::new(logs));
    let groups = trainer.groups().to_string();
    trainer.note(groups);
    match trainer.collective().size() {
        1 => {}
        replicas => trainer.note(format!("one of {replicas} replicas")),
    }
    Ok(())
}

/// What another replica than the first has to tell, in a file of its own that is there once it has something.
struct Aside {
    path: PathBuf,
}

impl Aside {
    fn new(out: &Path, rank: usize) -> Self {
        let path = out.join(format!("log_rank{rank}.txt"));
        Self { path }
    }
}

impl Listener for Aside {
    fn note(&mut self, text: &str) {
        let file = File::options().create(true).append(true).open(&self.path);
        // An error is printed as well; the rest is not worth ending a run for.
        let _ = file.and_then(|mut file| writeln!(file, "{text}"));
    }

    fn record(&mut self, _: &Entry) {}
}

/// All steps with what belongs between them. True if the run was stopped before its last step.
fn train<B: AutodiffBackend, T: Task<B>>(
    trainer: &mut Trainer<'_, B, T>,
    mut validating: Option<&mut Validating<'_, T::Trained>>,
    launch: &Launch,
) -> Result<bool> {
    let mut logging = Logging::new(trainer);
    let mut stopped = false;
    while !trainer.is_done() && !stopped {
        let report = trainer.step()?;
        logging.after_step(trainer, &report)?;
        if let Some(validating) = &mut validating {
            validating.after_step(trainer, &report)?;
        }
        let saved = Saving.after_step(trainer, &report);
        together(saved, trainer.collective())?;
        logging.resume();
        let mine = Flags {
            stop: launch.stop.is_on(),
            ..Flags::default()
        };
        stopped = trainer.collective().agree(mine)?.stop && !report.last;
    }
    if stopped {
        let saved = trainer.save();
        together(saved, trainer.collective())?;
    }
    let finished = trainer.finish();
    together(finished, trainer.collective())?;
    if stopped {
        let step = trainer.progress().step;
        trainer.note(format!(
            "stopped after step {step} of {}; once resumed, the run goes on from there",
            trainer.total()
        ));
    }
    Ok(stopped)
}

/// The trained model in the run's folder, and that of averaged weights.
const MODEL: &str = "model";
const MODEL_EMA: &str = "model_ema";

/// Mends what a process left that was killed while it wrote a model directory.
fn clean(path: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(files::partial(path));
    files::recover(path).map_err(TrainError::io(path))
}

/// Writes a model directory beside its place and then there, so that it is never half an old one.
fn write(model: &dyn Trained, path: &Path) -> Result<()> {
    let refused = |source: BoxError| TrainError::Task {
        what: "writing the trained model",
        source,
    };
    let partial = files::partial(path);
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).map_err(TrainError::io(&partial))?;
    model.write_into(&partial).map_err(refused)?;
    if std::fs::remove_dir(&partial).is_ok() {
        return Ok(()); // there was nothing to write
    }
    files::replace(&partial, path).map_err(TrainError::io(path))
}

/// Keeps other processes out of the run's folder for as long as the file is open.
fn lock(out: &Path) -> Result<File> {
    std::fs::create_dir_all(out).map_err(TrainError::io(out))?;
    let path = out.join(".lock");
    let file = File::create(&path).map_err(TrainError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::Config(format!(
            "{}: another process trains here; wait for its end, stop it, or choose another run.out",
            out.display()
        ))),
        // A file system without locks keeps nobody out.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}

#[cfg(test)]
mod tests;
