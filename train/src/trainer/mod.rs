//! The training loop, from one step to a whole run. It knows no CLIP: models are burn modules, methods are [`Task`]s.

mod alone;
pub mod collective;
pub mod hooks;
pub mod launch;
mod pass;
mod remainder;
pub mod replay;
mod report;
mod resume;
pub mod run;
mod seeds;
mod shards;
pub mod sound;
pub mod step;
pub mod task;

pub use hooks::Hook;
pub use launch::{Launch, Start, Stop};
pub use pass::Pass;
pub use report::StepReport;
pub use run::{Outcome, Run, Validate, run};

use crate::checkpoint::{Checkpoints, Environment, Progress, Saved, State, StoredAs, Writer};
use crate::error::{Remedy, Result, TrainError};
use crate::fault;
use crate::feed::Batches;
use crate::logs::{Entry, Listener};
use crate::optimizer::{Ema, GroupedAdamW, Schedule, logit_scale};
use crate::parameters::groups::Groups;
use crate::parameters::stable_ids::with_stable_ids;
use crate::parameters::{parameters, read_some, refuse_fresh_statistics, set_trainable};
use crate::recipe::Recipe;
use burn::module::AutodiffModule;
use burn::prelude::*;
use burn::tensor::Transaction;
use burn::tensor::backend::AutodiffBackend;
use collective::{Collective, Flags, Single};
use shards::Shards;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;
use step::{Step, StepOptions, step, together};
use task::{Task, Trained};

/// Trains one model, a step at a time: a loop of one's own is [`step`](Self::step) and whatever lies between.
///
/// ```no_run
/// # use train::{Batches, Launch, Recipe, Task, Trainer};
/// # use burn::tensor::backend::AutodiffBackend;
/// # fn run<B: AutodiffBackend, T: Task<B>>(
/// #     recipe: &Recipe, task: &T, model: T::Model, batches: &mut dyn Batches<T::Batch>, device: &B::Device,
/// # ) -> train::Result<T::Trained> {
/// let mut trainer = Trainer::new(task, model, recipe, batches, device)?;
/// trainer.start(&Launch::latest())?;
/// while !trainer.is_done() {
///     let report = trainer.step()?;
///     if report.step % 100 == 0 {
///         println!("{report}");
///         trainer.save()?;
///     }
/// }
/// trainer.finish()?;
/// # Ok(trainer.trained())
/// # }
/// ```
pub struct Trainer<'a, B: AutodiffBackend, T: Task<B>> {
    task: &'a T,
    recipe: &'a Recipe,
    batches: &'a mut dyn Batches<T::Batch>,
    collective: &'a dyn Collective<B::InnerBackend>,
    device: B::Device,
    total: u64,
    schedule: Schedule,
    groups: Groups,
    /// Absent only while it is being updated.
    model: Option<T::Model>,
    optimizer: GroupedAdamW<B>,
    /// Whose moments are whose, where each replica keeps a share only.
    shards: Option<Shards>,
    ema: Option<Ema<B>>,
    progress: Progress,
    environment: Environment,
    /// Hash of what is not trained.
    frozen: Option<String>,
    /// Loss of the last step, if nobody has read it.
    unread: Option<Tensor<B::InnerBackend, 1>>,
    checkpoints: Checkpoints,
    writer: Writer,
    saved: Option<u64>,
    listener: Option<Box<dyn Listener>>,
    /// What nobody listened to.
    notes: Vec<String>,
}

impl<'a, B: AutodiffBackend, T: Task<B>> Trainer<'a, B, T> {
    /// A trainer before its first step, on one replica.
    ///
    /// # Errors
    ///
    /// When the recipe does not fit the data or the model.
    pub fn new(
        task: &'a T,
        model: T::Model,
        recipe: &'a Recipe,
        batches: &'a mut dyn Batches<T::Batch>,
        device: &B::Device,
    ) -> Result<Self> {
        let model = with_stable_ids(model)?;
        refuse_fresh_statistics(&model)?;
        let groups = Groups::new(&recipe.groups, parameters(&model))?;
        let trained: HashSet<&str> = groups.trained().collect();
        let model = set_trainable(model, |path| trained.contains(path));
        let checkpoints =
            Checkpoints::new(recipe.out().join("checkpoints"), recipe.checkpoint.clone());
        let progress = Progress::default();
        let total = total_steps(recipe, batches, &progress)?;
        let environment = Environment {
            version: env!("CARGO_PKG_VERSION").into(),
            features: Vec::new(),
            backend: B::name(device),
            device: format!("{device:?}"),
            precision: recipe.precision(),
        };
        Ok(Self {
            schedule: Schedule::new(recipe.schedule.clone(), recipe.optimizer.lr, total)?,
            optimizer: GroupedAdamW::new(recipe.optimizer.clone(), &groups),
            shards: None,
            ema: recipe.run.ema.map(Ema::new),
            frozen: resume::frozen_hash(&model),
            model: Some(model),
            writer: Writer::new(checkpoints.clone()),
            device: device.clone(),
            collective: &Single,
            task,
            recipe,
            batches,
            total,
            groups,
            progress,
            environment,
            unread: None,
            checkpoints,
            saved: None,
            listener: None,
            notes: Vec::new(),
        })
    }

    /// The same trainer as one of several replicas.
    pub fn among(mut self, collective: &'a dyn Collective<B::InnerBackend>) -> Self {
        self.collective = collective;
        let (rank, replicas) = (collective.rank(), collective.size());
        let sharded = self.recipe.run.shard_optimizer && replicas > 1;
        self.shards = sharded.then(|| Shards::new(&self.groups, rank, replicas));
        if let Some(shards) = &self.shards {
            self.optimizer.keep(|path| shards.is_own(path));
        }
        self
    }

    /// Tells `listener` what happens from now on.
    pub fn listen(&mut self, mut listener: Box<dyn Listener>) {
        self.notes.drain(..).for_each(|note| listener.note(&note));
        let of_batches = self.batches.notes();
        of_batches.iter().for_each(|note| listener.note(note));
        self.listener = Some(listener);
    }

    /// One optimizer step. A step whose loss or gradient is not finite changes nothing and is counted.
    ///
    /// # Errors
    ///
    /// When the data ends or a replica fails, when the device can no longer be trusted, and when too many steps were
    /// not finite.
    pub fn step(&mut self) -> Result<StepReport> {
        let (recipe, run) = (self.recipe, &self.recipe.run);
        let index = self.progress.step;
        let lr = self.schedule.lr_at(index);
        let group = together(self.batches_of_step(), self.collective)?;
        let samples: usize = group.iter().map(|batch| self.task.samples(batch)).sum();

        let options = StepOptions {
            replay: run.replay,
            local_loss: run.local_loss,
            guarded: remainder::may_be_wrong(&self.environment.backend, &self.environment.features),
            seed: seeds::mix(run.seed, index),
        };
        let model = self.model();
        let Step {
            mut gradients,
            loss,
            parts,
        } = step(
            self.task,
            model,
            &group,
            options,
            self.collective,
            &self.device,
        )?;
        drop(group);
        let norm = gradients
            .norm()
            .ok_or_else(|| TrainError::Config("no trainable parameter has a gradient".into()))?;
        let norm = self.of_first(norm)?;

        let mut values = BTreeMap::new();
        if self.reads_after(index + 1) {
            let scale = logit_scale::read::<B, _>(model);
            let mut scalars = vec![("loss".into(), loss), ("grad_norm".into(), norm.clone())];
            scalars.extend(scale.map(|s| (logit_scale::LOGIT_SCALE.to_string(), s)));
            scalars.extend(parts);
            values = read_scalars(scalars).unwrap_or_default();
            let sound = sound::check_batch(samples / run.accumulate, run.accumulate);
            together(sound, self.collective)?;
            self.unread = None;
        } else {
            self.unread = Some(loss);
        }
        let finite = ["loss", "grad_norm"]
            .iter()
            .all(|name| values.get(*name).is_none_or(|v| v.is_finite()));
        let finite = match values.is_empty() {
            true => finite,
            // Replicas that judged for themselves might go different ways.
            false => {
                !self
                    .collective
                    .agree(Flags::not_finite(!finite))?
                    .not_finite
            }
        };

        let samples = (samples * self.collective.size()) as u64;
        self.progress.step += 1;
        self.progress.samples += samples;
        self.progress.metrics.clear();
        if finite {
            if let Some(max) = recipe.optimizer.clip_norm {
                gradients.clip(norm, max);
            }
            self.update(lr, &mut gradients)?;
        } else {
            self.skip(&values)?;
        }
        for note in self.batches.notes() {
            self.note(note);
        }
        let ended = self.writer.ended();
        let told = self.told(ended);
        together(told, self.collective)?;
        if let Some(listener) = &mut self.listener {
            listener.advance(self.progress.step);
        }
        values.insert("lr".into(), lr);
        Ok(StepReport {
            step: self.progress.step,
            epoch: self.epoch(),
            samples: self.progress.samples,
            samples_in_step: samples,
            finite,
            last: self.is_done(),
            values,
        })
    }

    /// True when the recipe's steps are made.
    pub fn is_done(&self) -> bool {
        self.progress.step >= self.total
    }

    /// Steps of the whole run.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counters so far.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Epochs done.
    pub fn epoch(&self) -> f64 {
        let (step, epoch) = (
            per_step(self.recipe, self.batches),
            self.batches.samples_per_epoch(),
        );
        self.progress.place.epochs(step, epoch)
    }

    /// Which parameters are trained and how.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The recipe.
    pub fn recipe(&self) -> &'a Recipe {
        self.recipe
    }

    /// The other replicas.
    pub fn collective(&self) -> &'a dyn Collective<B::InnerBackend> {
        self.collective
    }

    /// The model as it is now.
    pub fn model(&self) -> &T::Model {
        self.model.as_ref().expect("there is a model between steps")
    }

    /// The model in its final form, as it is now.
    pub fn trained(&self) -> T::Trained {
        self.task.trained(self.model().valid())
    }

    /// The model with averaged weights, if the recipe asks for them.
    pub fn averaged(&self) -> Option<T::Trained> {
        let ema = self.ema.as_ref()?;
        Some(self.task.trained(ema.apply(self.model().clone()).valid()))
    }

    /// Checks that the metric of `checkpoint.best` was measured.
    ///
    /// # Errors
    ///
    /// When it is not among `metrics`.
    pub fn check_best(&self, metrics: &BTreeMap<String, f64>) -> Result<()> {
        self.checkpoints.check_metrics(metrics)
    }

    /// Keeps what these weights were rated at, for `checkpoint.best`.
    pub fn rated(&mut self, metrics: BTreeMap<String, f64>) {
        self.progress.metrics = metrics;
    }

    /// True if these weights were rated better than those of every checkpoint.
    ///
    /// # Errors
    ///
    /// When the device can no longer be trusted, or another replica is gone.
    pub fn improves(&mut self) -> Result<bool> {
        if self.progress.metrics.is_empty() || self.recipe.checkpoint.best.is_none() {
            return Ok(false);
        }
        let before = self.writer.wait();
        let told = self.told(before);
        together(told, self.collective)?;
        // Only the first replica writes checkpoints, and so knows of them.
        let improves = u8::from(self.checkpoints.improves(&self.progress));
        Ok(self.collective.broadcast(&[improves])? == [1])
    }

    /// Time that steps have waited for data.
    pub fn waited(&self) -> Duration {
        self.batches.waited()
    }

    /// Tells a sentence to the listener, or keeps it for [`take_notes`](Self::take_notes).
    pub fn note(&mut self, text: impl Into<String>) {
        match &mut self.listener {
            Some(listener) => listener.note(&text.into()),
            None => self.notes.push(text.into()),
        }
    }

    /// Tells an entry of the log to the listener, if there is one.
    pub fn record(&mut self, entry: &Entry) {
        if let Some(listener) = &mut self.listener {
            listener.record(entry);
        }
    }

    /// What was told while nobody listened.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Begins to write a checkpoint; training may go on meanwhile. A step is saved once. The first replica writes; the
    /// others, who call this as well, give it their share of the moments.
    ///
    /// # Errors
    ///
    /// When the weights are not finite or the device can no longer be trusted. That the disk refuses is a [`note`](Self::note), or
    /// an error of [`finish`](Self::finish) for the last one.
    pub fn save(&mut self) -> Result<()> {
        if self.saved == Some(self.progress.step) {
            return Ok(());
        }
        let optimizer = match &self.shards {
            Some(shards) => shards.collect(self.optimizer.state(), self.collective)?,
            None => BTreeMap::new(),
        };
        let read = self.check_unread();
        together(read, self.collective)?;
        if self.collective.rank() != 0 {
            self.saved = Some(self.progress.step);
            return Ok(());
        }
        let trained = self.trained();
        let mut exported = BTreeMap::new();
        for parameter in parameters(self.model()).iter().filter(|p| p.trainable) {
            if let Some(stored) = trained.stored(&parameter.path) {
                let stored = StoredAs::new(stored, &parameter.shape);
                exported.insert(parameter.path.clone(), stored);
            }
        }
        let trained_paths: HashSet<&str> = self.groups.trained().collect();
        let saved = Saved {
            weights: read_some(self.model(), |path| {
                trained_paths.contains(path) && !exported.contains_key(path)
            }),
            exported,
            optimizer: match &self.shards {
                Some(_) => optimizer,
                None => self.optimizer.state(),
            },
            ema: self.ema.as_ref().map(Ema::state),
            state: State {
                progress: Progress {
                    place: self.progress.place.of_all(self.collective.size()),
                    ..self.progress.clone()
                },
                replicas: self.collective.size(),
                per_step: self.samples_of_step(),
                environment: self.environment.clone(),
                frozen: self.frozen.clone(),
            },
        };
        sound::check()?; // reading the weights has waited for the device
        self.saved = Some(self.progress.step);
        let before = self.writer.begin(saved, trained, self.recipe.to_toml());
        self.told(before)
    }

    /// Waits until the last checkpoint is written.
    ///
    /// # Errors
    ///
    /// When it could not be.
    pub fn finish(&mut self) -> Result<Option<PathBuf>> {
        match self.writer.wait() {
            None => Ok(None),
            Some(Ok(dir)) => {
                self.note(format!("saved {}", dir.display()));
                Ok(Some(dir))
            }
            Some(Err(error)) => Err(TrainError::LastCheckpoint {
                source: Box::new(error),
            }),
        }
    }

    /// Notes what became of a checkpoint that was written meanwhile.
    fn told(&mut self, ended: Option<Result<PathBuf>>) -> Result<()> {
        match ended {
            None => {}
            Some(Ok(dir)) => self.note(format!("saved {}", dir.display())),
            Some(Err(error @ TrainError::Device { .. })) => return Err(error),
            Some(Err(error)) => self.note(format!(
                "a checkpoint could not be written: {error}; earlier ones are intact, training goes on"
            )),
        }
        Ok(())
    }

    fn batches_of_step(&mut self) -> Result<Vec<T::Batch>> {
        let (size, count) = (self.batches.batch_size(), self.recipe.run.accumulate);
        let samples = per_step(self.recipe, self.batches);
        let epoch = self.batches.samples_per_epoch();
        let mut place = self.progress.place.before(samples, epoch);
        let mut group = Vec::with_capacity(count);
        for _ in 0..count {
            let batch = self.batches.get(place);
            group.push(batch.map_err(|source| TrainError::Batch { place, source })?);
            place = place.plus(size);
        }
        self.progress.place = place;
        Ok(group)
    }

    /// Whether the loss of a step is read: someone logs, validates or saves after it.
    fn reads_after(&self, done: u64) -> bool {
        let Recipe {
            run,
            log,
            checkpoint,
            ..
        } = self.recipe;
        let due = |every: u64| every > 0 && done.is_multiple_of(every);
        done >= self.total
            || [
                run.check_every,
                log.every,
                log.validate_every,
                checkpoint.every,
            ]
            .map(due)
                != [false; 4]
    }

    fn update(
        &mut self,
        lr: f64,
        gradients: &mut crate::optimizer::Gradients<B::InnerBackend>,
    ) -> Result<()> {
        // By value: weights whose only owner is the model are overwritten in place.
        let model = self.model.take().expect("there is a model between steps");
        let mut model = self.optimizer.step(lr, model, gradients);
        if let Some(shards) = &self.shards {
            model = shards.exchange::<B, _>(model, self.collective)?;
        }
        if let [min, max] = *self.recipe.run.logit_scale_range {
            model = logit_scale::clamp::<B, _>(model, [min, max]);
        }
        if let Some(ema) = &mut self.ema {
            ema.update(&model);
        }
        self.model = Some(model);
        Ok(())
    }

    /// The value of the first replica: a GPU may sum in another order each time, and replicas that clip by their own norm
    /// would drift apart.
    fn of_first(&self, value: Tensor<B::InnerBackend, 1>) -> Result<Tensor<B::InnerBackend, 1>> {
        let mine = match self.collective.rank() {
            0 => value,
            _ => value.zeros_like(),
        };
        let mut sums = self.collective.sum(vec![mine])?;
        Ok(sums.remove(0))
    }

    /// Samples of a step, of all replicas.
    pub(crate) fn samples_of_step(&self) -> u64 {
        per_step(self.recipe, self.batches) * self.collective.size() as u64
    }

    /// The longest that a replica has waited for data.
    ///
    /// # Errors
    ///
    /// When another replica is gone.
    pub fn longest_wait(&self) -> Result<Duration> {
        let mine = self.waited().as_nanos() as u64;
        let all = self.collective.gather(&mine.to_le_bytes())?;
        let all = all
            .iter()
            .filter_map(|bytes| bytes.as_slice().try_into().ok());
        Ok(Duration::from_nanos(
            all.map(u64::from_le_bytes).max().unwrap_or(mine),
        ))
    }

    /// The metrics that the first replica has measured.
    pub(crate) fn metrics_of_first(
        &self,
        mine: BTreeMap<String, f64>,
    ) -> Result<BTreeMap<String, f64>> {
        if self.collective.size() == 1 {
            return Ok(mine);
        }
        // A line for each, its value as bits: decimal numbers would be rounded, and JSON has no NaN.
        let lines = mine.iter();
        let lines = lines.map(|(name, value)| format!("{:x} {name}\n", value.to_bits()));
        let of_first = self
            .collective
            .broadcast(lines.collect::<String>().as_bytes())?;
        let of_first = String::from_utf8_lossy(&of_first);
        let read = of_first.lines().filter_map(|line| {
            let (bits, name) = line.split_once(' ')?;
            let bits = u64::from_str_radix(bits, 16).ok()?;
            Some((name.to_string(), f64::from_bits(bits)))
        });
        Ok(read.collect())
    }

    /// Counts a step that is left out; ends the run when that does not help any more.
    fn skip(&mut self, values: &BTreeMap<String, f64>) -> Result<()> {
        self.progress.skipped += 1;
        let (run, progress) = (&self.recipe.run, self.progress.clone());
        let note = format!(
            "step {}: loss {} and gradient norm {} are not both finite; the step is skipped",
            progress.step, values["loss"], values["grad_norm"]
        );
        self.note(note.clone());
        if run.check_every > 1 {
            let message = format!(
                "{note} too late: with run.check_every = {} the weights may already be spoilt. Resume from the latest \
                 checkpoint with run.check_every = 1",
                run.check_every
            );
            return Err(TrainError::NonFinite {
                message,
                remedy: CHECK_EVERY_STEP,
            });
        }
        if progress.skipped > run.max_skipped {
            let message = format!(
                "{note}; that makes {} skipped steps, more than run.max_skipped = {}. Lower optimizer.lr, lengthen \
                 schedule.warmup or set optimizer.clip_norm, and resume from the latest checkpoint, accepting the change",
                progress.skipped, run.max_skipped
            );
            return Err(TrainError::NonFinite {
                message,
                remedy: Remedy {
                    accept_changes: true,
                    ..Remedy::RESUME
                },
            });
        }
        Ok(())
    }

    /// Reads the loss of the last step, if nobody has.
    fn check_unread(&mut self) -> Result<()> {
        let Some(loss) = self.unread.take() else {
            return Ok(());
        };
        let read = read_scalars(vec![("loss".into(), loss)]).unwrap_or_default();
        sound::check()?;
        match read.get("loss") {
            Some(loss) if !loss.is_finite() => Err(TrainError::NonFinite {
                message: format!(
                    "step {}: the loss is {loss}, so these weights are not saved. Resume from the latest checkpoint \
                     with run.check_every = 1",
                    self.progress.step
                ),
                remedy: CHECK_EVERY_STEP,
            }),
            _ => Ok(()),
        }
    }
}

/// Past weights that were spoilt before anybody looked.
const CHECK_EVERY_STEP: Remedy = Remedy {
    set: Some("run.check_every=1"),
    ..Remedy::RESUME
};

/// Samples of a replica in a step.
fn per_step<T>(recipe: &Recipe, batches: &dyn Batches<T>) -> u64 {
    batches
        .batch_size()
        .saturating_mul(recipe.run.accumulate as u64)
}

/// Steps of the whole run, those that are done included.
fn total_steps<T>(recipe: &Recipe, batches: &dyn Batches<T>, done: &Progress) -> Result<u64> {
    let (step, epoch) = (per_step(recipe, batches), batches.samples_per_epoch());
    if step == 0 || epoch < step {
        let size = batches.batch_size();
        return Err(TrainError::Config(format!(
            "an epoch has {epoch} samples for a process, fewer than it takes in a step (data.loader.batch_size = {size} times \
             run.accumulate = {}): lower one of them, or add data",
            recipe.run.accumulate
        )));
    }
    let by_epochs = |epochs| {
        done.step
            .saturating_add(done.place.steps_until(epochs, step, epoch))
    };
    Ok(recipe
        .run
        .steps
        .unwrap_or_else(|| by_epochs(recipe.run.epochs.unwrap_or(1))))
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
