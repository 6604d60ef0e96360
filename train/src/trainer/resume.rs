//! From a checkpoint back to a trainer.

use super::launch::{Launch, Start};
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
use std::path::Path;

impl<B: AutodiffBackend, T: Task<B>> Trainer<'_, B, T> {
    /// Starts as `launch` says: anew, or where a checkpoint left off. Later checkpoints of a run that goes back are set
    /// aside.
    ///
    /// # Errors
    ///
    /// When the checkpoint is damaged, or belongs to another model or another recipe.
    pub fn start(&mut self, launch: &Launch) -> Result<()> {
        self.environment.features = launch.features.clone();
        let chief = self.collective.rank() == 0;
        if chief {
            self.checkpoints.clean();
        }
        if !chief && launch.start == Start::New {
            return Ok(());
        }
        let Some((dir, damaged)) = self.checkpoints.find(&launch.start)? else {
            if launch.start == Start::Latest {
                self.note("no checkpoint yet: starting at step 0");
            }
            return Ok(());
        };
        for (dir, reason) in damaged {
            self.note(format!("checkpoint {} is damaged: {reason}", dir.display()));
        }
        let before = Recipe::load(&dir.join("recipe.toml"), &[])?;
        let differences = before.differences(self.recipe);
        if !differences.is_empty() && !launch.accept_changes {
            let message = format!(
                "it was made by another recipe (its value → yours):\n  {}\nPut its values back, accept the changes to go \
                 on with yours, or start anew with another run.out.",
                differences.join("\n  ")
            );
            return Err(TrainError::checkpoint(&dir, message).with_remedy(Remedy {
                accept_changes: true,
                ..Remedy::default()
            }));
        }
        self.take_over(&dir, Saved::read(&dir)?, launch.accept_changes)?;
        self.note(format!(
            "resumed from {} at step {}",
            dir.display(),
            self.progress.step
        ));
        for difference in differences {
            self.note(format!("changed since: {difference}"));
        }
        if chief {
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
        self.progress = saved.state.progress;
        self.saved = Some(self.progress.step);
        self.total = total_steps(self.recipe, self.batches, &self.progress)?;
        let (schedule, lr) = (self.recipe.schedule.clone(), self.recipe.optimizer.lr);
        self.schedule = Schedule::new(schedule, lr, self.total)?;
        Ok(())
    }
}

/// Entries of each frozen tensor that are hashed.
const SAMPLED: usize = 64;

/// Tells models apart by what is not trained: paths, shapes and evenly spaced entries. `None` if all is trained.
pub(super) fn frozen_hash<B: AutodiffBackend, M: Module<B>>(model: &M) -> Option<String> {
    struct Hash {
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
            if value.is_require_grad() {
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
        path: crate::parameters::ParamPath::default(),
        hash: None,
    };
    model.visit(&mut visitor);
    let bytes = visitor.hash?.finalize();
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
