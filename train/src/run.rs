//! The training loop.

use crate::batches::Batches;
use crate::checkpoint::{Checkpoints, Progress};
use crate::collective::Collective;
use crate::error::{BoxError, Result, TrainError};
use crate::groups::Groups;
use crate::logs::{Entry, Kind, Logs};
use crate::meter::Meter;
use crate::parameters::parameters;
use crate::position::Position;
use crate::recipe::Recipe;
use crate::schedule::Schedule;
use crate::stable_ids::with_stable_ids;
use crate::state::State;
use crate::step::{Step, StepOptions, step};
use crate::task::Task;
use crate::{fault, gradients, logit_scale, report};
use burn::prelude::*;
use burn::tensor::Transaction;
use burn::tensor::backend::AutodiffBackend;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Everything a run is made of.
pub struct Run<'a, B: AutodiffBackend, T: Task<B>> {
    /// The method.
    pub task: &'a T,
    /// The model to start from; a resumed run takes over its shapes only.
    pub model: T::Model,
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Where batches come from.
    pub batches: &'a mut dyn Batches<T::Batch>,
    /// The other replicas.
    pub collective: &'a dyn Collective<B::InnerBackend>,
    /// Metrics of the current model, named, higher is better.
    pub validate: Option<Validate<'a, T::Model>>,
    /// Where to continue.
    pub resume: Resume,
    /// Where to compute.
    pub device: B::Device,
}

/// A function that rates a model.
pub type Validate<'a, M> = &'a mut dyn FnMut(&M) -> Result<BTreeMap<String, f64>, BoxError>;

/// Where a run starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Resume {
    /// From the given model.
    #[default]
    No,
    /// From the latest intact checkpoint of the run's folder, or from the given model if there is none.
    Latest,
    /// From this checkpoint.
    From(PathBuf),
}

impl From<&str> for Resume {
    /// `latest`, or the folder of a checkpoint.
    fn from(text: &str) -> Self {
        match text {
            "latest" => Resume::Latest,
            path => Resume::From(path.into()),
        }
    }
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
            seconds: self.seconds,
            waited: self.waited,
        }
    }
}

/// Trains a model as the recipe says.
///
/// # Errors
///
/// When the recipe does not fit the data or the model, when a checkpoint cannot be resumed or the last one
/// cannot be written, when the data ends, or when too many steps were not finite.
pub fn run<B: AutodiffBackend, T: Task<B>>(run: Run<'_, B, T>) -> Result<Outcome<T::Model>> {
    let Run {
        task,
        model,
        recipe,
        batches,
        collective,
        mut validate,
        resume,
        device,
    } = run;
    let config = &recipe.run;
    let total = recipe.total_steps(batches.per_epoch())?;
    let schedule = Schedule::new(recipe.schedule.clone(), recipe.optimizer.lr, total)?;
    let model = with_stable_ids(model)?;
    let groups = Groups::new(&recipe.groups, parameters(&model))?;
    let checkpoints = Checkpoints::new(recipe.out().join("checkpoints"), recipe.checkpoint.clone());
    let chief = collective.rank() == 0;
    if chief && resume == Resume::No {
        checkpoints.refuse_any()?;
    }
    if let (true, None, Some(best)) = (chief, &validate, &recipe.checkpoint.best) {
        return Err(TrainError::Config(format!(
            "checkpoint.best = \"{best}\", but nothing is validated: add [[validation.zero_shot]] or \
             [[validation.retrieval]], or remove checkpoint.best"
        )));
    }
    let mut state = State::new(model, recipe, &groups);
    let notes = state.resume(&resume, &checkpoints, recipe, &groups, &device)?;

    let mut logs = match chief {
        true => Some(Logs::open(
            &recipe.out(),
            &recipe.log,
            total,
            state.progress.step,
        )?),
        false => None,
    };
    if let Some(logs) = &mut logs {
        let path = recipe.out().join("recipe.toml");
        std::fs::write(&path, recipe.to_toml()).map_err(TrainError::io(&path))?;
        notes.iter().for_each(|note| logs.note(note));
        logs.note(&groups.to_string());
    }

    let position = Position::new(batches.per_epoch(), config.accumulate as u64);
    let start = Instant::now();
    let mut meter = Meter::new(batches.waited());
    while state.progress.step < total {
        let index = state.progress.step;
        let lr = schedule.lr_at(index);

        let mut group = Vec::with_capacity(config.accumulate);
        for position in position.batches_of(index) {
            let batch = batches.get(position);
            group.push(batch.map_err(|source| TrainError::Batch { position, source })?);
        }
        let samples: usize = group.iter().map(|batch| task.samples(batch)).sum();
        let sound = || fault::check_batch(samples / config.accumulate, config.accumulate);

        let options = StepOptions {
            replay: config.replay,
            seed: step_seed(config.seed, index),
        };
        let Step {
            mut gradients,
            loss,
            parts,
        } = step(task, &state.model, &group, options, collective, &device);
        drop(group);
        let norm = gradients::norm(&state.model, &gradients)
            .ok_or_else(|| TrainError::Config("no trainable parameter has a gradient".into()))?;

        let last = index + 1 == total;
        let logged = last || (index + 1) % recipe.log.every == 0;
        let mut finite = true;
        let mut values = BTreeMap::new();
        if logged || (index + 1) % config.check_every == 0 {
            let scale = logit_scale::read::<B, _>(&state.model);
            let mut scalars = vec![("loss".into(), loss), ("grad_norm".into(), norm.clone())];
            scalars.extend(scale.map(|s| (logit_scale::LOGIT_SCALE.to_string(), s)));
            scalars.extend(parts);
            values = read_scalars(scalars).unwrap_or_default();
            sound()?;
            finite = values["loss"].is_finite() && values["grad_norm"].is_finite();
        }

        state.progress.step += 1;
        state.progress.metrics.clear();
        state.progress.samples += (samples * collective.world()) as u64;
        if finite {
            if let Some(max) = recipe.optimizer.clip_norm {
                gradients::clip(&state.model, &mut gradients, norm, max);
            }
            state = state.update(lr, &mut gradients, &config.logit_scale_range);
        } else {
            state.progress.skipped += 1;
            let note = format!(
                "step {}: loss {} and gradient norm {} are not both finite; the step is skipped",
                index + 1,
                values["loss"],
                values["grad_norm"]
            );
            if let Some(logs) = &mut logs {
                logs.note(&note);
            }
            give_up(
                config.check_every,
                config.max_skipped,
                &state.progress,
                &note,
            )?;
        }

        let (done, seen) = (state.progress.step, state.progress.samples);
        let entry = |kind, values, speed| Entry {
            kind,
            step: done,
            epoch: position.epochs(done),
            samples: seen,
            values,
            speed,
        };
        meter.count(samples * collective.world());
        if let Some(logs) = &mut logs {
            logs.advance(done);
            batches.notes().iter().for_each(|note| logs.note(note));
            if logged && finite {
                values.insert("lr".into(), lr);
                logs.record(&entry(Kind::Train, values, meter.read(batches.waited())));
            }
        }

        let every = |n: u64| last || (n > 0 && done.is_multiple_of(n));
        if every(recipe.log.validate_every)
            && let (Some(validate), Some(logs)) = (&mut validate, &mut logs)
        {
            let metrics = validate(&state.model).map_err(|source| TrainError::Task {
                what: "validating",
                source,
            })?;
            logs.record(&entry(Kind::Validation, metrics.clone(), BTreeMap::new()));
            match checkpoints.check_metrics(&metrics) {
                Err(error) if last => logs.note(&error.to_string()),
                checked => checked?,
            }
            state.progress.metrics = metrics;
            meter.pause(batches.waited());
        }
        if (every(recipe.checkpoint.every) || checkpoints.improves(&state.progress))
            && let Some(logs) = &mut logs
        {
            let export = |dir: &std::path::Path| task.export(&state.model, dir);
            let snapshot = state.snapshot();
            sound()?; // reading the weights has waited for the device
            match checkpoints.save(&snapshot, recipe, export) {
                Ok(dir) => logs.note(&format!("saved {}", dir.display())),
                Err(error) if last => {
                    return Err(TrainError::Task {
                        what: "writing the last checkpoint; earlier ones are intact, so that after making \
                               room --resume latest goes on from there",
                        source: error.into(),
                    });
                }
                Err(error) => logs.note(&format!(
                    "a checkpoint could not be written: {error}; earlier ones are intact, training goes on"
                )),
            }
            meter.pause(batches.waited());
        }
    }

    if let Some(logs) = &mut logs {
        logs.finish();
        report::write_run(recipe)?;
    }
    let ema = state.ema.as_ref().map(|ema| ema.apply(state.model.clone()));
    Ok(Outcome {
        ema,
        model: state.model,
        progress: state.progress,
        seconds: start.elapsed().as_secs_f64(),
        waited: batches.waited().as_secs_f64(),
    })
}

/// Reads several scalars from the device in one go; `None` where the device failed, which is then a [`fault`].
fn read_scalars<B: Backend>(scalars: Vec<(String, Tensor<B, 1>)>) -> Option<BTreeMap<String, f64>> {
    let (names, tensors): (Vec<String>, Vec<_>) = scalars.into_iter().unzip();
    let reading = tensors
        .into_iter()
        .fold(Transaction::default(), Transaction::register);
    let data = reading.try_execute().map_err(fault::note_error).ok()?;
    let value = |data: &TensorData| data.iter::<f64>().next().unwrap_or(f64::NAN);
    Some(names.into_iter().zip(data.iter().map(value)).collect())
}

/// Ends the run when skipping does not help any more.
fn give_up(check_every: u64, limit: u64, progress: &Progress, note: &str) -> Result<()> {
    if check_every > 1 {
        return Err(TrainError::NonFinite(format!(
            "{note} too late: with run.check_every = {check_every} the weights may already be spoilt. \
             Resume from the latest checkpoint with run.check_every = 1"
        )));
    }
    if progress.skipped > limit {
        return Err(TrainError::NonFinite(format!(
            "{note}; that makes {} skipped steps, more than run.max_skipped = {limit}. Lower \
             optimizer.lr, lengthen schedule.warmup or set optimizer.clip_norm, and resume from the \
             latest checkpoint",
            progress.skipped
        )));
    }
    Ok(())
}

/// Seed of the draws of one step (splitmix64), so that they do not depend on what was drawn before.
fn step_seed(seed: u64, step: u64) -> u64 {
    let mut z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
