//! From a checkpoint back to a trainer.

use super::launch::{Launch, Start};
use super::step::together;
use super::task::Task;
use super::{Trainer, total_steps};
use crate::checkpoint::{Saved, check_weights};
use crate::error::{Remedy, Result, TrainError};
use crate::optimizer::Schedule;
use crate::parameters::{parameters, write_parameters};
use crate::recipe::Recipe;
use burn::module::{Module, ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

impl<B: AutodiffBackend, T: Task<B>> Trainer<'_, B, T> {
    /// Starts as `launch` says: anew, or where a checkpoint left off. Later checkpoints of a run that goes back are set
    /// aside.
    ///
    /// # Errors
    ///
    /// When the checkpoint is damaged, or belongs to another model or another recipe.
    pub fn start(&mut self, launch: &Launch) -> Result<()> {
        self.environment.features = launch.features.clone();
        let found = together(self.find(&launch.start), self.collective)?;
        // All go on from what the first one has found.
        let of_first = found.as_ref().map(|dir| dir.display().to_string());
        let of_first = self
            .collective
            .broadcast(of_first.unwrap_or_default().as_bytes())?;
        let of_first = String::from_utf8_lossy(&of_first).into_owned();
        let found = found.or_else(|| (!of_first.is_empty()).then(|| of_first.into()));
        let started = found.map(|dir| self.go_on(&dir, launch)).transpose();
        let resumed = together(started, self.collective)?.is_some();
        self.check_same_start()?;
        let aside = match resumed {
            true => self.set_aside(),
            false => Ok(()),
        };
        together(aside, self.collective)
    }

    /// Replicas that start from other weights than the first would go on to drift apart without a word.
    fn check_same_start(&self) -> Result<()> {
        if self.collective.size() == 1 {
            return Ok(());
        }
        let mine = [true, false].map(|trained| hash(self.model(), trained));
        let mine = format!("{mine:?}");
        let all = self.collective.gather(mine.as_bytes())?;
        match all.iter().position(|other| *other != all[0]) {
            None => Ok(()),
            Some(rank) => Err(TrainError::Config(format!(
                "replica {rank} starts from other weights than replica 0: give all the same [model], run.seed and build, on \
                 devices of the same kind"
            ))),
        }
    }

    /// The checkpoint to start at, as the first replica finds it.
    fn find(&mut self, start: &Start) -> Result<Option<PathBuf>> {
        if self.collective.rank() != 0 {
            return Ok(None);
        }
        self.checkpoints.clean();
        let Some((dir, damaged)) = self.checkpoints.find(start)? else {
            if *start == Start::Latest {
                self.note("no checkpoint yet: starting at step 0");
            }
            return Ok(None);
        };
        for (dir, reason) in damaged {
            self.note(format!("checkpoint {} is damaged: {reason}", dir.display()));
        }
        Ok(Some(dir))
    }

    /// Continues at a checkpoint.
    fn go_on(&mut self, dir: &Path, launch: &Launch) -> Result<()> {
        let saved = Saved::read(dir)?;
        let before = Recipe::load(&dir.join("recipe.toml"), &[])?;
        let mut differences = before.differences(self.recipe);
        let (then, now) = (saved.state.per_step, self.samples_of_step());
        if saved.state.replicas != self.collective.size() && then > 0 {
            // However they are shared out: what counts is how many there are.
            differences.retain(|what| !OF_A_STEP.iter().any(|key| what.starts_with(key)));
            if then != now {
                differences.push(format!(
                    "data.loader.batch_size × run.accumulate × processes: {then} → {now}"
                ));
            }
        }
        if !differences.is_empty() && !launch.accept_changes {
            let message = format!(
                "it was made by another recipe (its value → yours):\n  {}\nPut its values back, accept the changes to go \
                 on with yours, or start anew with another run.out.",
                differences.join("\n  ")
            );
            return Err(TrainError::checkpoint(dir, message).with_remedy(Remedy {
                accept_changes: true,
                ..Remedy::default()
            }));
        }
        self.take_over(dir, saved, launch.accept_changes)?;
        self.note(format!(
            "resumed from {} at step {}",
            dir.display(),
            self.progress.step
        ));
        for difference in differences {
            self.note(format!("changed since: {difference}"));
        }
        Ok(())
    }

    /// Later checkpoints of a run that goes back, out of the way.
    fn set_aside(&mut self) -> Result<()> {
        if self.collective.rank() == 0 {
            for aside in self.checkpoints.set_aside_after(self.progress.step)? {
                self.note(format!("a later checkpoint is now {}", aside.display()));
            }
        }
        Ok(())
    }

    fn take_over(&mut self, dir: &Path, saved: Saved, lenient: bool) -> Result<()> {
        let refused = |reason| TrainError::checkpoint(dir, reason);
        let listed = parameters(self.model());
        let known = |path: &String| listed.iter().any(|p| &p.path == path);
        let (mut dropped, mut weights) = (Vec::new(), saved.weights);
        if lenient {
            // A parameter that was trained and is now frozen still goes on from where it was.
            dropped.extend(weights.keys().filter(|path| !known(path)).cloned());
            dropped.iter().for_each(|path| {
                weights.remove(path);
            });
        }
        let expected: Vec<_> = listed
            .into_iter()
            .filter(|p| weights.contains_key(&p.path) || (p.trainable && !lenient))
            .collect();
        check_weights(&weights, &expected).map_err(refused)?;
        if saved.state.frozen != self.frozen && !lenient {
            return Err(refused(
                "the parameters that are not trained are not those that it was trained with: is [model] the same?".into(),
            ));
        }
        let moments = self
            .optimizer
            .load(saved.optimizer, &self.groups, lenient, &self.device);
        dropped.extend(moments.map_err(refused)?);
        let model = self.model.take().expect("there is a model between steps");
        self.model = Some(write_parameters(model, weights));
        match (&mut self.ema, saved.ema) {
            (Some(ema), Some(average)) => ema.load(average, &self.device),
            (Some(_), None) => self.note("the average of the weights starts here"),
            (None, _) => {}
        }
        if !dropped.is_empty() {
            self.note(format!("not taken over: {}", dropped.join(", ")));
        }
        if let Some(shards) = &self.shards {
            self.optimizer.keep(|path| shards.is_own(path));
        }
        self.progress = saved.state.progress;
        let (all, replicas) = (self.progress.place, self.collective.size());
        self.progress.place = all.of_one(replicas).ok_or_else(|| {
            refused(format!(
                "it ends at sample {} of an epoch, which {replicas} processes cannot share out; take as many that the samples \
                 of all in a step (data.loader.batch_size times run.accumulate times processes) stay the same",
                all.sample
            ))
        })?;
        self.saved = Some(self.progress.step);
        self.total = total_steps(self.recipe, self.batches, &self.progress)?;
        let (schedule, lr) = (self.recipe.schedule.clone(), self.recipe.optimizer.lr);
        self.schedule = Schedule::new(schedule, lr, self.total)?;
        Ok(())
    }
}

/// What makes a step as large as it is.
const OF_A_STEP: [&str; 2] = ["data.loader.batch_size:", "run.accumulate:"];

/// Entries of each tensor that are hashed.
const SAMPLED: usize = 64;

/// Tells models apart by what is not trained. `None` if all is trained.
pub(super) fn frozen_hash<B: AutodiffBackend, M: Module<B>>(model: &M) -> Option<String> {
    hash(model, false)
}

/// Tells models apart by what is trained, or by what is not: paths, shapes and evenly spaced entries. `None` if there is
/// nothing of the kind.
fn hash<B: AutodiffBackend, M: Module<B>>(model: &M, trained: bool) -> Option<String> {
    struct Hash {
        trained: bool,
        path: crate::parameters::ParamPath,
        hash: Option<Sha256>,
    }
    impl<B: AutodiffBackend> ModuleVisitor<B> for Hash {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let value = param.val();
            if value.is_require_grad() != self.trained {
                return;
            }
            let length = value.shape().num_elements();
            let step = length.div_ceil(SAMPLED).max(1);
            let places: Vec<i32> = (0..length).step_by(step).map(|i| i as i32).collect();
            let places = Tensor::from_data(TensorData::from(places.as_slice()), &value.device());
            let flat = value.clone().inner().reshape([length]);
            let hash = self.hash.get_or_insert_with(Sha256::new);
            hash.update(format!("{}{:?}", self.path.join(), value.dims()));
            hash.update(flat.select(0, places).into_data().as_bytes());
        }
    }
    let mut visitor = Hash {
        trained,
        path: crate::parameters::ParamPath::default(),
        hash: None,
    };
    model.visit(&mut visitor);
    let bytes = visitor.hash?.finalize();
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
