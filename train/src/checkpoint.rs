//! Checkpoints: all that is needed to continue a run as if it had never stopped.
//!
//! ```text
//! checkpoints/step_00001000/
//!   weights.safetensors     parameters by path
//!   optimizer.safetensors   exp_avg.PATH, exp_avg_sq.PATH, step.PATH
//!   ema.safetensors         averaged weights, if the recipe asks for them
//!   state.json              step and counters; the data position and all seeds follow from the step
//!   recipe.toml             the resolved recipe
//!   model/                  what the method exports for other programs
//!   manifest.json           size and checksum of every file
//! ```
//!
//! A folder is written under a hidden name, synced, and renamed: whatever happens, a checkpoint is there as
//! a whole or not at all, and earlier ones are not touched before a later one is complete.

use crate::error::{BoxError, Result, TrainError};
use crate::parameters::Parameter;
use crate::recipe::Recipe;
use crate::{manifest, tensors};
use burn::tensor::TensorData;
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

/// Counters of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done, skipped ones included.
    pub step: u64,
    /// Samples seen.
    pub samples: u64,
    /// Steps skipped because a loss or gradient was not finite.
    pub skipped: u64,
    /// Metrics of these weights, if they were validated at this step.
    pub metrics: BTreeMap<String, f64>,
}

/// Content of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Parameters by path.
    pub weights: BTreeMap<String, TensorData>,
    /// Optimizer state.
    pub optimizer: BTreeMap<String, TensorData>,
    /// Averaged weights.
    pub ema: Option<BTreeMap<String, TensorData>>,
    /// Counters.
    pub progress: Progress,
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

    /// Writes a checkpoint and removes those no longer to be kept. `export` fills `model/`.
    ///
    /// # Errors
    ///
    /// When anything cannot be written. Nothing is left of the attempt, and nothing else is touched.
    pub fn save(
        &self,
        snapshot: &Snapshot,
        recipe: &Recipe,
        export: impl FnOnce(&Path) -> Result<(), BoxError>,
    ) -> Result<PathBuf> {
        let name = format!("step_{:08}", snapshot.progress.step);
        let (target, temporary) = (
            self.root.join(&name),
            self.root.join(format!(".{name}.part")),
        );
        let _ = fs::remove_dir_all(&temporary);
        let written = write_folder(&temporary, snapshot, recipe, export)
            .and_then(|()| replace_folder(&temporary, &target));
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        self.prune();
        Ok(target)
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
                    "{reason}; no earlier checkpoint is intact either: start anew without --resume"
                ),
            )),
        }
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    ///
    /// When it is damaged, with the earlier one to use instead, or when it was made by another recipe, with
    /// what differs.
    pub fn load(&self, dir: &Path, recipe: &Recipe) -> Result<Snapshot> {
        if let Err(reason) = manifest::verify(dir) {
            let remedy = match self.latest() {
                Ok(Some((other, _))) => format!("resume from {} instead", other.display()),
                _ => "no other checkpoint of this run is intact".to_string(),
            };
            return Err(TrainError::checkpoint(dir, format!("{reason}; {remedy}")));
        }
        let before = Recipe::load(&dir.join("recipe.toml"), &[])?;
        let differences = before.differences(recipe);
        if !differences.is_empty() {
            let list = differences.join("\n  ");
            return Err(TrainError::checkpoint(
                dir,
                format!(
                    "it was made by another recipe (its value → yours):\n  {list}\nPut its values back to \
                     continue, or start anew with another run.out."
                ),
            ));
        }
        let path = dir.join("state.json");
        let text = fs::read_to_string(&path).map_err(TrainError::io(&path))?;
        let progress = serde_json::from_str(&text)
            .map_err(|e| TrainError::checkpoint(dir, format!("state.json: {e}")))?;
        let ema = dir.join("ema.safetensors");
        Ok(Snapshot {
            weights: tensors::read(&dir.join("weights.safetensors"))?,
            optimizer: tensors::read(&dir.join("optimizer.safetensors"))?,
            ema: if ema.exists() {
                Some(tensors::read(&ema)?)
            } else {
                None
            },
            progress,
        })
    }

    /// Refuses to start anew where checkpoints of an earlier run are: its later ones would displace those of
    /// the new run and be resumed in their stead.
    ///
    /// # Errors
    ///
    /// When there is a checkpoint.
    pub fn refuse_any(&self) -> Result<()> {
        match self.all().last() {
            None => Ok(()),
            Some(dir) => Err(TrainError::checkpoint(
                dir,
                "it belongs to an earlier run in the same folder: continue that run with --resume latest, \
                 choose another run.out, or remove the folder",
            )),
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
        let text = fs::read_to_string(dir.join("state.json")).ok()?;
        self.value(&serde_json::from_str(&text).ok()?)
    }

    /// Folders of complete checkpoints, oldest first.
    fn all(&self) -> Vec<PathBuf> {
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

/// Compares the parameters of a checkpoint with those of a model.
///
/// # Errors
///
/// A sentence that lists the parameters that are missing, unknown or of another shape.
pub fn check_weights(
    weights: &BTreeMap<String, TensorData>,
    model: &[Parameter],
) -> Result<(), String> {
    let mut wrong = Vec::new();
    for parameter in model {
        match weights.get(&parameter.path) {
            None => wrong.push(format!("`{}` is missing", parameter.path)),
            Some(data) if !data.shape.iter().eq(parameter.shape.iter()) => wrong.push(format!(
                "`{}` is {:?} and should be {:?}",
                parameter.path, data.shape, parameter.shape
            )),
            Some(_) => {}
        }
    }
    let known = |name: &String| model.iter().any(|p| &p.path == name);
    wrong.extend(
        weights
            .keys()
            .filter(|n| !known(n))
            .map(|n| format!("`{n}` is not in the model")),
    );
    if wrong.is_empty() {
        return Ok(());
    }
    let (shown, more) = (wrong.len().min(10), wrong.len().saturating_sub(10));
    let rest = if more > 0 {
        format!("\n  and {more} more")
    } else {
        String::new()
    };
    Err(format!(
        "it holds another model:\n  {}{rest}",
        wrong[..shown].join("\n  ")
    ))
}

fn write_folder(
    dir: &Path,
    snapshot: &Snapshot,
    recipe: &Recipe,
    export: impl FnOnce(&Path) -> Result<(), BoxError>,
) -> Result<()> {
    fs::create_dir_all(dir).map_err(TrainError::io(dir))?;
    tensors::write(&dir.join("weights.safetensors"), &snapshot.weights)?;
    tensors::write(&dir.join("optimizer.safetensors"), &snapshot.optimizer)?;
    if let Some(ema) = &snapshot.ema {
        tensors::write(&dir.join("ema.safetensors"), ema)?;
    }
    let state = serde_json::to_string_pretty(&snapshot.progress).expect("plain data serialises");
    for (name, text) in [("state.json", state), ("recipe.toml", recipe.to_toml())] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(TrainError::io(&path))?;
    }
    let model = dir.join("model");
    fs::create_dir(&model).map_err(TrainError::io(&model))?;
    export(&model).map_err(|source| TrainError::Task {
        what: "exporting the model",
        source,
    })?;
    if fs::read_dir(&model).is_ok_and(|mut files| files.next().is_none()) {
        let _ = fs::remove_dir(&model);
    }
    manifest::write(dir)?;
    sync_all(dir)
}

/// Waits until a folder and all in it are on the disk.
fn sync_all(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(TrainError::io(dir))? {
        let path = entry.map_err(TrainError::io(dir))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            sync(&path)?;
        }
    }
    sync(dir)
}

fn sync(path: &Path) -> Result<()> {
    fs::File::open(path)
        .and_then(|f| f.sync_all())
        .map_err(TrainError::io(path))
}

/// Renames `new` to `target`. A folder that is already there steps aside first.
fn replace_folder(new: &Path, target: &Path) -> Result<()> {
    let aside = new.with_extension("old");
    let _ = fs::remove_dir_all(&aside);
    if target.exists() {
        fs::rename(target, &aside).map_err(TrainError::io(target))?;
    }
    fs::rename(new, target).map_err(TrainError::io(target))?;
    let _ = fs::remove_dir_all(&aside);
    target.parent().map_or(Ok(()), sync)
}

fn step_of(dir: &Path) -> Option<u64> {
    dir.file_name()?
        .to_str()?
        .strip_prefix("step_")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(lr: f64) -> Recipe {
        Recipe::parse(&format!("[run]\nsteps = 5\n[optimizer]\nlr = {lr}")).unwrap()
    }

    fn snapshot(step: u64, accuracy: f64) -> Snapshot {
        let tensor = |x: f32| TensorData::new(vec![x; 6], [2, 3]);
        Snapshot {
            weights: [("a".to_string(), tensor(step as f32))].into(),
            optimizer: [("exp_avg.a".to_string(), tensor(0.5))].into(),
            ema: None,
            progress: Progress {
                step,
                metrics: [("accuracy".to_string(), accuracy)].into(),
                ..Default::default()
            },
        }
    }

    fn save(checkpoints: &Checkpoints, step: u64, accuracy: f64) -> PathBuf {
        checkpoints
            .save(&snapshot(step, accuracy), &recipe(0.1), |_| Ok(()))
            .unwrap()
    }

    fn new(root: &Path) -> Checkpoints {
        let config = CheckpointConfig {
            keep: 2,
            best: Some("accuracy".into()),
            ..Default::default()
        };
        Checkpoints::new(root, config)
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = new(root.path());
        let dir = save(&checkpoints, 7, 0.5);
        assert_eq!(
            checkpoints.load(&dir, &recipe(0.1)).unwrap(),
            snapshot(7, 0.5)
        );
    }

    #[test]
    fn the_last_ones_and_the_best_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = new(root.path());
        for (step, accuracy) in [(1, 0.1), (2, 0.9), (3, 0.2), (4, 0.3), (10, 0.4)] {
            save(&checkpoints, step, accuracy);
        }
        let steps: Vec<_> = checkpoints
            .all()
            .iter()
            .filter_map(|d| step_of(d))
            .collect();
        assert_eq!(steps, [2, 4, 10]);
    }

    #[test]
    fn a_truncated_checkpoint_is_passed_over_for_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = new(root.path());
        let good = save(&checkpoints, 1, 0.0);
        let bad = save(&checkpoints, 2, 0.0);
        let weights = bad.join("weights.safetensors");
        let bytes = fs::read(&weights).unwrap();
        fs::write(&weights, &bytes[..bytes.len() - 5]).unwrap();
        let (latest, damaged) = checkpoints.latest().unwrap().unwrap();
        assert_eq!(latest, good);
        assert_eq!(damaged[0].0, bad);
        assert!(
            damaged[0].1.contains("weights.safetensors"),
            "{}",
            damaged[0].1
        );
        let message = checkpoints
            .load(&bad, &recipe(0.1))
            .unwrap_err()
            .to_string();
        assert!(message.contains("step_00000001 instead"), "{message}");
    }

    #[test]
    fn a_single_flipped_bit_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = new(root.path());
        let dir = save(&checkpoints, 1, 0.0);
        let path = dir.join("optimizer.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(
            checkpoints
                .latest()
                .unwrap_err()
                .to_string()
                .contains("SHA-256")
        );
    }

    #[test]
    fn another_recipe_is_refused_with_what_differs() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = new(root.path());
        let dir = save(&checkpoints, 1, 0.0);
        let message = checkpoints
            .load(&dir, &recipe(0.2))
            .unwrap_err()
            .to_string();
        assert!(message.contains("optimizer.lr: 0.1 → 0.2"), "{message}");
    }

    #[test]
    fn another_model_is_refused_by_parameter() {
        let parameter = |path: &str, shape: &[usize]| Parameter {
            path: path.into(),
            id: crate::stable_ids::stable_id(path),
            shape: shape.to_vec(),
            trainable: true,
        };
        let weights = snapshot(1, 0.0).weights;
        assert!(check_weights(&weights, &[parameter("a", &[2, 3])]).is_ok());
        let wrong = check_weights(&weights, &[parameter("a", &[3, 3])]).unwrap_err();
        assert!(wrong.contains("`a`") && wrong.contains("[3, 3]"), "{wrong}");
        let wrong = check_weights(&weights, &[parameter("b", &[2, 3])]).unwrap_err();
        assert!(
            wrong.contains("`b` is missing") && wrong.contains("`a` is not"),
            "{wrong}"
        );
    }

    #[test]
    fn a_failed_export_leaves_nothing_and_touches_nothing() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = new(root.path());
        let good = save(&checkpoints, 1, 0.0);
        let failed = checkpoints.save(&snapshot(2, 0.0), &recipe(0.1), |_| {
            Err("no space left".into())
        });
        assert!(failed.unwrap_err().to_string().contains("no space left"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        assert!(checkpoints.load(&good, &recipe(0.1)).is_ok());
    }

    #[test]
    fn an_interrupted_writing_is_no_checkpoint() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".step_00000003.part")).unwrap();
        assert!(new(root.path()).latest().unwrap().is_none());
    }
}
