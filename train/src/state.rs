//! What changes from step to step, and its way into a checkpoint and back.

use crate::checkpoint::{Checkpoints, Progress, Snapshot, check_weights};
use crate::ema::Ema;
use crate::error::{Result, TrainError};
use crate::groups::Groups;
use crate::logit_scale;
use crate::optimizer::GroupedAdamW;
use crate::parameters::{parameters, read_parameters, set_trainable, write_parameters};
use crate::recipe::Recipe;
use crate::run::Resume;
use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use std::collections::HashSet;

/// Model, optimizer, averages and counters.
pub struct State<B: AutodiffBackend, M> {
    pub model: M,
    pub optimizer: GroupedAdamW<B>,
    pub ema: Option<Ema<B>>,
    pub progress: Progress,
}

impl<B: AutodiffBackend, M: AutodiffModule<B>> State<B, M> {
    /// The state before the first step.
    pub fn new(model: M, recipe: &Recipe, groups: &Groups) -> Self {
        let trained: HashSet<&str> = groups.trained().collect();
        Self {
            model: set_trainable(model, |path| trained.contains(path)),
            optimizer: GroupedAdamW::new(recipe.optimizer.clone(), groups),
            ema: recipe.run.ema.map(Ema::new),
            progress: Progress::default(),
        }
    }

    /// Takes over a checkpoint; returns what there is to tell about it.
    pub fn resume(
        &mut self,
        resume: &Resume,
        checkpoints: &Checkpoints,
        recipe: &Recipe,
        groups: &Groups,
        device: &B::Device,
    ) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let dir = match resume {
            Resume::No => return Ok(notes),
            Resume::From(dir) => dir.clone(),
            Resume::Latest => match checkpoints.latest()? {
                None => return Ok(vec!["no checkpoint yet: starting at step 0".into()]),
                Some((dir, damaged)) => {
                    notes.extend(damaged.into_iter().map(|(dir, reason)| {
                        format!("checkpoint {} is damaged: {reason}", dir.display())
                    }));
                    dir
                }
            },
        };
        let refused = |reason| TrainError::checkpoint(&dir, reason);
        let snapshot = checkpoints.load(&dir, recipe)?;
        check_weights(&snapshot.weights, &parameters(&self.model)).map_err(refused)?;
        self.optimizer
            .load(snapshot.optimizer, groups, device)
            .map_err(refused)?;
        self.model = write_parameters(self.model.clone(), snapshot.weights);
        if let (Some(ema), Some(average)) = (&mut self.ema, snapshot.ema) {
            ema.load(average, device);
        }
        self.progress = snapshot.progress;
        notes.push(format!(
            "resumed from {} at step {}",
            dir.display(),
            self.progress.step
        ));
        Ok(notes)
    }

    /// One optimizer step.
    pub fn update(
        mut self,
        lr: f64,
        gradients: &mut GradientsParams,
        logit_scale_range: &[f64],
    ) -> Self {
        // By value: weights whose only owner is the model are overwritten in place.
        self.model = self.optimizer.step(lr, self.model, gradients);
        if let [min, max] = *logit_scale_range {
            self.model = logit_scale::clamp::<B, _>(self.model, [min, max]);
        }
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model);
        }
        self
    }

    /// Everything that a checkpoint holds.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            weights: read_parameters(&self.model),
            optimizer: self.optimizer.state(),
            ema: self.ema.as_ref().map(Ema::state),
            progress: self.progress.clone(),
        }
    }
}
