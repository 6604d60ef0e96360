//! Checkpoints: all that is needed to continue a run as if it had never stopped.
//!
//! ```text
//! checkpoints/step_00001000/
//!   model/                  what the method exports for other programs
//!   weights.json            which trained parameters are in a file of model/, and under which name
//!   weights.safetensors     the other ones, by path
//!   optimizer.safetensors   exp_avg.PATH, exp_avg_sq.PATH, step.PATH
//!   ema.safetensors         averaged weights, if the recipe asks for them
//!   state.json              step, counters, place in the data; by which program and device
//!   recipe.toml             the resolved recipe
//!   manifest.json           size and checksum of every file
//! checkpoints/set_aside/    later checkpoints of a run that went back to an earlier one
//! ```
//!
//! A folder is written under a hidden name, synced, and renamed: whatever happens, a checkpoint is there as
//! a whole or not at all, and earlier ones are not touched before a later one is complete.

mod folder;
mod manifest;
mod names;
mod saved;
pub mod tensors;
mod writer;

pub(crate) use saved::check_weights;
pub use saved::{Environment, Progress, Saved, State, StoredAs};
pub use writer::Writer;

use crate::error::{Remedy, Result, TrainError};
use crate::trainer::launch::Start;
use crate::trainer::task::Trained;
use files::{of_aside, recover};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The `[checkpoint]` table of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; 0 writes one at the end only.
    pub every: u64,
    /// Number of latest checkpoints to keep.
    pub keep: usize,
    /// Validation metric, higher is better, whose best checkpoint is kept as well.
    pub best: Option<String>,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: 1000,
            keep: 3,
            best: None,
        }
    }
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    root: PathBuf,
    config: CheckpointConfig,
}

/// A checkpoint that was passed over, and why.
pub type Damaged = (PathBuf, String);

impl Checkpoints {
    /// The checkpoints below `root`.
    pub fn new(root: impl Into<PathBuf>, config: CheckpointConfig) -> Self {
        Self {
            root: root.into(),
            config,
        }
    }

    /// Folder of a step's checkpoint.
    pub fn folder(&self, step: u64) -> PathBuf {
        self.root.join(format!("step_{step:08}"))
    }

    /// Writes a checkpoint and removes those no longer to be kept.
    ///
    /// # Errors
    ///
    /// When anything cannot be written. Nothing is left of the attempt, and nothing else is touched.
    pub fn save(&self, saved: &Saved, model: &dyn Trained, recipe: &str) -> Result<PathBuf> {
        let target = self.folder(saved.state.progress.step);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self.root.join(format!(".{name}.part"));
        let _ = fs::remove_dir_all(&temporary);
        let written = folder::write(&temporary, saved, model, recipe)
            .and_then(|()| folder::rename(&temporary, &target));
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        self.prune();
        Ok(target)
    }

    /// The checkpoint to go on from, known to be intact, and the damaged ones that were passed over; `None` to start
    /// anew.
    ///
    /// # Errors
    ///
    /// When the wanted one is damaged, or all are; and when the run shall start anew where checkpoints of an earlier one
    /// are: its later ones would displace those of the new run and be resumed in their stead.
    pub fn find(&self, start: &Start) -> Result<Option<(PathBuf, Vec<Damaged>)>> {
        match start {
            Start::New => match self.all().last() {
                None => Ok(None),
                Some(dir) => Err(TrainError::checkpoint(
                    dir,
                    "it belongs to an earlier run in the same folder: resume that run from its latest checkpoint, \
                     choose another run.out, or remove the folder",
                )
                .with_remedy(Remedy::RESUME)),
            },
            Start::Latest => self.latest(),
            Start::Checkpoint(dir) => {
                let Err(reason) = manifest::verify(dir) else {
                    return Ok(Some((dir.clone(), Vec::new())));
                };
                let remedy = match self.latest() {
                    Ok(Some((other, _))) => format!("resume from {} instead", other.display()),
                    _ => "no other checkpoint of this run is intact".to_string(),
                };
                Err(TrainError::checkpoint(dir, format!("{reason}; {remedy}")))
            }
        }
    }

    /// The latest checkpoint that is intact, and the damaged ones that were passed over.
    ///
    /// # Errors
    ///
    /// When there are checkpoints but all are damaged.
    pub fn latest(&self) -> Result<Option<(PathBuf, Vec<Damaged>)>> {
        let mut damaged = Vec::new();
        for dir in self.all().into_iter().rev() {
            match manifest::verify(&dir) {
                Ok(()) => return Ok(Some((dir, damaged))),
                Err(reason) => damaged.push((dir, reason)),
            }
        }
        match damaged.into_iter().next() {
            None => Ok(None),
            Some((dir, reason)) => Err(TrainError::checkpoint(
                &dir,
                format!(
                    "{reason}; no earlier checkpoint is intact either: start anew with another run.out, or remove {}",
                    self.root.display()
                ),
            )),
        }
    }

    /// Moves checkpoints after `step` to `set_aside`, so that a run which went back neither prunes its own new ones in
    /// their favour nor resumes from them. Returns where they are.
    ///
    /// # Errors
    ///
    /// When a folder cannot be moved.
    pub fn set_aside_after(&self, step: u64) -> Result<Vec<PathBuf>> {
        let later = self.all().into_iter().filter(|d| step_of(d) > Some(step));
        let aside = self.root.join("set_aside");
        let mut moved = Vec::new();
        for dir in later {
            fs::create_dir_all(&aside).map_err(TrainError::io(&aside))?;
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            let mut targets = (1..).map(|n| match n {
                1 => aside.join(&*name),
                n => aside.join(format!("{name}.{n}")),
            });
            let target = targets.find(|target| !target.exists());
            let target = target.expect("some number is free");
            fs::rename(&dir, &target).map_err(TrainError::io(&dir))?;
            moved.push(target);
        }
        Ok(moved)
    }

    /// Removes what a killed process left half-written, and puts back what it had moved aside.
    pub fn clean(&self) {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(".step_") {
                continue;
            }
            // What cannot be removed or moved is no checkpoint to anybody.
            let _ = match of_aside(&path) {
                Some(target) => recover(&target),
                None => fs::remove_dir_all(&path),
            };
        }
    }

    /// Checks that the metric that rates checkpoints was measured.
    ///
    /// # Errors
    ///
    /// When it is not among the metrics, with those that are.
    pub fn check_metrics(&self, metrics: &BTreeMap<String, f64>) -> Result<()> {
        match &self.config.best {
            Some(best) if !metrics.contains_key(best) => {
                let known: Vec<&str> = metrics.keys().map(String::as_str).collect();
                Err(TrainError::Config(format!(
                    "checkpoint.best = \"{best}\" is no metric of this validation; it has {}",
                    known.join(", ")
                )))
            }
            _ => Ok(()),
        }
    }

    /// True if the weights were just validated and are better than those of every checkpoint.
    pub fn improves(&self, progress: &Progress) -> bool {
        self.value(progress).is_some_and(|value| {
            let all = self.all();
            let mut rated = all.iter().filter_map(|dir| self.rating(dir));
            rated.all(|before| value > before)
        })
    }

    /// The metric by which weights are rated.
    fn value(&self, progress: &Progress) -> Option<f64> {
        progress.metrics.get(self.config.best.as_ref()?).copied()
    }

    fn rating(&self, dir: &Path) -> Option<f64> {
        self.value(&saved::read_state(dir).ok()?.progress)
    }

    /// Folders of complete checkpoints, oldest first.
    pub fn all(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut dirs: Vec<PathBuf> = entries
            .map(|e| e.path())
            .filter(|p| step_of(p).is_some())
            .collect();
        dirs.sort_by_key(|dir| step_of(dir));
        dirs
    }

    /// Removes what is neither among the last ones nor the best. A folder that cannot be removed stays.
    fn prune(&self) {
        let all = self.all();
        let rated = all
            .iter()
            .filter_map(|dir| Some((self.rating(dir)?, dir.clone())));
        let best = rated.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, dir)| dir);
        let old = all.len().saturating_sub(self.config.keep.max(1));
        for dir in all
            .into_iter()
            .take(old)
            .filter(|dir| Some(dir) != best.as_ref())
        {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

fn step_of(dir: &Path) -> Option<u64> {
    dir.file_name()?
        .to_str()?
        .strip_prefix("step_")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests;
