//! What happens between steps: log entries, validations, checkpoints. A loop of one's own takes those it likes.

use super::step::together;
use super::task::Task;
use super::{StepReport, Trainer};
use crate::error::{BoxError, Result, TrainError};
use crate::logs::{Kind, Meter};
use burn::tensor::backend::AutodiffBackend;
use std::collections::BTreeMap;

/// Something that is done after a step.
pub trait Hook<B: AutodiffBackend, T: Task<B>> {
    /// Called after every step, in the order of the hooks.
    ///
    /// # Errors
    ///
    /// Ends the run.
    fn after_step(&mut self, trainer: &mut Trainer<'_, B, T>, report: &StepReport) -> Result<()>;
}

/// Records the values of every `log.every`-th step, with the speed since the last entry.
pub struct Logging {
    meter: Meter,
}

impl Logging {
    /// Measures from now on.
    pub fn new<B: AutodiffBackend, T: Task<B>>(trainer: &Trainer<'_, B, T>) -> Self {
        Self {
            meter: Meter::new(trainer.waited()),
        }
    }

    /// Leaves out what went before since the last entry, if that was now: a validation or a checkpoint is not training.
    pub fn resume(&mut self) {
        if self.meter.is_fresh() {
            self.meter.pause();
        }
    }
}

impl<B: AutodiffBackend, T: Task<B>> Hook<B, T> for Logging {
    fn after_step(&mut self, trainer: &mut Trainer<'_, B, T>, report: &StepReport) -> Result<()> {
        self.meter.count(report.samples_in_step as usize);
        if report.every(trainer.recipe().log.every) && report.finite {
            let waited = trainer.longest_wait()?;
            let mut entry = report.entry(Kind::Train, report.values.clone());
            entry.speed = self.meter.read(waited);
            trainer.record(&entry);
        }
        Ok(())
    }
}

/// Rates a model in its final form: metrics by name, higher is better.
pub type Validate<'a, M> = &'a mut dyn FnMut(&M) -> Result<BTreeMap<String, f64>, BoxError>;

/// Rates the model after every `log.validate_every`-th step and at the end.
pub struct Validating<'a, M> {
    /// How.
    pub validate: Validate<'a, M>,
}

impl<B: AutodiffBackend, T: Task<B>> Hook<B, T> for Validating<'_, T::Trained> {
    fn after_step(&mut self, trainer: &mut Trainer<'_, B, T>, report: &StepReport) -> Result<()> {
        if !report.every(trainer.recipe().log.validate_every) {
            return Ok(());
        }
        let metrics = (self.validate)(&trainer.trained());
        let metrics = metrics.map_err(|source| TrainError::Task {
            what: "validating",
            source,
        });
        let metrics = trainer.metrics_of_first(together(metrics, trainer.collective())?)?;
        trainer.record(&report.entry(Kind::Validation, metrics.clone()));
        match trainer.check_best(&metrics) {
            Err(error) if report.last => trainer.note(error.to_string()),
            checked => checked?,
        }
        trainer.rated(metrics);
        Ok(())
    }
}

/// Saves after every `checkpoint.every`-th step, at the end, and where a validation was the best so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Saving;

impl<B: AutodiffBackend, T: Task<B>> Hook<B, T> for Saving {
    fn after_step(&mut self, trainer: &mut Trainer<'_, B, T>, report: &StepReport) -> Result<()> {
        match report.every(trainer.recipe().checkpoint.every) || trainer.improves()? {
            true => trainer.save(),
            false => Ok(()),
        }
    }
}
