//! Recipes: TOML files that describe a run completely.
//!
//! The tables of the engine are parsed here; `[model]`, `[data]` and `[method]` are read by those who know
//! them, through [`Recipe::section`]. Unknown fields are refused everywhere.

use crate::checkpoint::CheckpointConfig;
use crate::error::{Result, TrainError};
use crate::groups::GroupsConfig;
use crate::optimizer::AdamWConfig;
use crate::schedule::ScheduleConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A recipe with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Length and numerics of the run.
    pub run: RunConfig,
    /// AdamW.
    #[serde(default)]
    pub optimizer: AdamWConfig,
    /// Learning rate over time.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Weight decay, layer-wise rates, frozen parts.
    #[serde(default)]
    pub groups: GroupsConfig,
    /// When checkpoints are written and kept.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// What is logged and when.
    #[serde(default)]
    pub log: LogConfig,
    /// The model: read by the crate that builds it.
    #[serde(default)]
    pub model: Table,
    /// Training data: read by the loader.
    #[serde(default)]
    pub data: Table,
    /// The training method and its options: read by its crate.
    #[serde(default)]
    pub method: Table,
    /// Validation sets: read by whoever validates.
    #[serde(default)]
    pub validation: Table,
    #[serde(skip)]
    file: PathBuf,
}

/// The `[run]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Folder for checkpoints and logs, relative to the recipe.
    pub out: PathBuf,
    /// Seed of everything that is drawn at random.
    pub seed: u64,
    /// Length in epochs; give this or `steps`.
    pub epochs: Option<u64>,
    /// Length in optimizer steps; give this or `epochs`.
    pub steps: Option<u64>,
    /// Batches per step, joined exactly by the gradient cache: the contrastive loss sees all of them.
    pub accumulate: usize,
    /// Recomputes residual blocks on the way back instead of storing their insides.
    pub replay: bool,
    /// Range of `logit_scale`, enforced after each step. An empty list leaves it free.
    pub logit_scale_range: Vec<f64>,
    /// Decay of an exponential moving average of the weights. Absent: none.
    pub ema: Option<f64>,
    /// Steps whose loss or gradient is not finite are skipped; this many in one run end it.
    pub max_skipped: u64,
    /// Steps between reads of the loss. With 1, a step that is not finite is skipped; with more, the device
    /// is never waited for, but such a step ends the run when it is found.
    pub check_every: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            out: "runs/train".into(),
            seed: 0,
            epochs: None,
            steps: None,
            accumulate: 1,
            replay: false,
            logit_scale_range: vec![0.0, 100f64.ln()],
            ema: None,
            max_skipped: 10,
            check_every: 1,
        }
    }
}

/// The `[log]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Steps between entries.
    pub every: u64,
    /// Steps between validations; 0 validates at the end only.
    pub validate_every: u64,
    /// Writes TensorBoard event files.
    pub tensorboard: bool,
    /// Shows a progress bar.
    pub progress: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            every: 10,
            validate_every: 0,
            tensorboard: true,
            progress: true,
        }
    }
}

impl Recipe {
    /// Reads a recipe and applies overrides of the form `table.field=value`, the value in TOML or a bare
    /// string.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or parsed, when it or an override names an unknown field, or when a
    /// value cannot be used.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        let refused = |message: String| TrainError::Recipe {
            path: path.to_path_buf(),
            message,
        };
        let mut recipe = if overrides.is_empty() {
            toml::from_str::<Recipe>(&text).map_err(|e| refused(e.to_string()))? // with line numbers
        } else {
            let mut table: Table = toml::from_str(&text).map_err(|e| refused(e.to_string()))?;
            for assignment in overrides {
                set(&mut table, assignment).map_err(refused)?;
            }
            Value::Table(table)
                .try_into()
                .map_err(|e: toml::de::Error| refused(e.to_string()))?
        };
        recipe.file = path.to_path_buf();
        recipe.check().map_err(|e| refused(e.to_string()))?;
        Ok(recipe)
    }

    /// Parses a recipe from text; its paths are relative to the working directory.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(text: &str) -> Result<Self> {
        let path = PathBuf::from("recipe.toml");
        let refused = |message| TrainError::Recipe {
            path: path.clone(),
            message,
        };
        let recipe: Recipe = toml::from_str(text).map_err(|e| refused(e.to_string()))?;
        recipe.check().map_err(|e| refused(e.to_string()))?;
        Ok(recipe)
    }

    /// The recipe as TOML, defaults included.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a recipe is plain data")
    }

    /// Where a path of the recipe leads: relative ones start at the recipe's folder.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Folder of the run.
    pub fn out(&self) -> PathBuf {
        self.resolve(&self.run.out)
    }

    /// Reads one of the open tables (`model`, `data`, `method`, `validation`) into its owner's type.
    ///
    /// # Errors
    ///
    /// When the table does not fit the type; a type with `deny_unknown_fields` refuses what it does not
    /// know.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let table = match name {
            "model" => &self.model,
            "data" => &self.data,
            "method" => &self.method,
            "validation" => &self.validation,
            other => panic!("a recipe has no open table `{other}`"),
        };
        Value::Table(table.clone())
            .try_into()
            .map_err(|e: toml::de::Error| TrainError::Recipe {
                path: self.file.clone(),
                message: format!("in [{name}]: {}", e.to_string().trim()),
            })
    }

    /// Steps of the run, given the batches in an epoch.
    ///
    /// # Errors
    ///
    /// When an epoch holds less than one step.
    pub fn total_steps(&self, batches_per_epoch: u64) -> Result<u64> {
        let per_epoch = batches_per_epoch / self.run.accumulate as u64;
        if per_epoch == 0 {
            return Err(TrainError::Config(format!(
                "an epoch has {batches_per_epoch} batches, fewer than run.accumulate = {}: lower it or \
                 the batch size, or add data",
                self.run.accumulate
            )));
        }
        Ok(self
            .run
            .steps
            .unwrap_or_else(|| self.run.epochs.unwrap_or(1) * per_epoch))
    }

    /// What differs from `other` in a way that changes the run: where it is written, how often it is logged
    /// and how many threads feed it do not.
    pub fn differences(&self, other: &Recipe) -> Vec<String> {
        let (before, after) = (self.flat(), other.flat());
        let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let show = |value: Option<&String>| value.cloned().unwrap_or_else(|| "absent".into());
        keys.into_iter()
            .filter(|key| !is_incidental(key) && before.get(*key) != after.get(*key))
            .map(|key| {
                format!(
                    "{key}: {} → {}",
                    show(before.get(key)),
                    show(after.get(key))
                )
            })
            .collect()
    }

    fn check(&self) -> Result<()> {
        self.optimizer.check()?;
        let run = &self.run;
        let refuse = |message: String| Err(TrainError::Config(message));
        match (run.epochs, run.steps) {
            (None, None) => return refuse("give run.epochs or run.steps".into()),
            (Some(_), Some(_)) => return refuse("give run.epochs or run.steps, not both".into()),
            (Some(0), _) | (_, Some(0)) => return refuse("a run needs at least one step".into()),
            _ => {}
        }
        for (name, value) in [
            ("run.accumulate", run.accumulate as u64),
            ("run.check_every", run.check_every),
            ("log.every", self.log.every),
        ] {
            if value == 0 {
                return refuse(format!("{name} must be at least 1"));
            }
        }
        if !run.logit_scale_range.is_empty()
            && !matches!(run.logit_scale_range[..], [min, max] if min <= max)
        {
            return refuse("run.logit_scale_range must be [min, max] or []".into());
        }
        if run.ema.is_some_and(|decay| !(0.0..1.0).contains(&decay)) {
            return refuse("run.ema must be in [0, 1)".into());
        }
        Ok(())
    }

    fn flat(&self) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        if let Ok(Value::Table(table)) = Value::try_from(self) {
            flatten("", &table, &mut flat);
        }
        flat
    }
}

fn is_incidental(key: &str) -> bool {
    ["run.out", "run.max_skipped", "data.loader.max_bad"].contains(&key)
        || ["checkpoint.", "log.", "validation."]
            .iter()
            .any(|table| key.starts_with(table))
        || ["threads", "workers", "prefetch", "ahead"]
            .iter()
            .any(|name| key.ends_with(name))
}

fn flatten(prefix: &str, table: &Table, into: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(table) => flatten(&key, table, into),
            value => {
                into.insert(key, value.to_string());
            }
        }
    }
}

/// Applies one `a.b=value`.
fn set(table: &mut Table, assignment: &str) -> Result<(), String> {
    let (key, text) = assignment
        .split_once('=')
        .ok_or_else(|| format!("`--set {assignment}` should read `--set table.field=value`"))?;
    let parsed = toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(text.to_string()));
    let mut names: Vec<&str> = key.trim().split('.').collect();
    let field = names
        .pop()
        .filter(|n| !n.is_empty())
        .ok_or("`--set` needs a field name")?;
    let mut place = table;
    for name in names {
        let entry = place
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()));
        place = entry
            .as_table_mut()
            .ok_or_else(|| format!("`--set {assignment}`: `{name}` is a value, not a table"))?;
    }
    place.insert(field.to_string(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "[run]\nepochs = 3\n[data]\nshards = \"a.tar\"\nthreads = 2\n";

    fn load(text: &str, overrides: &[&str]) -> Result<Recipe> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
        Recipe::load(&path, &overrides)
    }

    #[test]
    fn defaults_are_those_of_open_clip() {
        let recipe = Recipe::parse(MINIMAL).unwrap();
        let o = &recipe.optimizer;
        assert_eq!((o.lr, o.beta1, o.beta2, o.eps), (5e-4, 0.9, 0.98, 1e-6));
        assert_eq!((o.weight_decay, recipe.schedule.warmup), (0.2, 10_000));
        assert!((recipe.run.logit_scale_range[1] - 4.605_170).abs() < 1e-6);
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_line() {
        let message = load("[run]\nepochs = 3\nlearning_rate = 1\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("learning_rate") && message.contains("line 3"),
            "{message}"
        );
    }

    #[test]
    fn overrides_reach_nested_fields_and_are_checked_alike() {
        let recipe = load(
            MINIMAL,
            &["optimizer.lr=1e-3", "run.out=else/where", "data.shards=[1]"],
        );
        let recipe = recipe.unwrap();
        assert_eq!(recipe.optimizer.lr, 1e-3);
        assert!(recipe.out().ends_with("else/where"));
        assert!(recipe.data["shards"].is_array());
        assert!(
            load(MINIMAL, &["optimizer.rate=1"])
                .unwrap_err()
                .to_string()
                .contains("rate")
        );
        assert!(load(MINIMAL, &["optimizer.lr=fast"]).is_err());
        assert!(
            load(MINIMAL, &["lr"])
                .unwrap_err()
                .to_string()
                .contains("table.field=value")
        );
    }

    #[test]
    fn paths_start_at_the_recipe() {
        let recipe = load(MINIMAL, &[]).unwrap();
        assert_eq!(recipe.resolve("x.tar").parent(), recipe.file.parent());
        assert_eq!(recipe.resolve("/abs/x.tar"), Path::new("/abs/x.tar"));
    }

    #[test]
    fn a_section_refuses_what_its_owner_does_not_know() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Data {
            shards: String,
        }
        let message = Recipe::parse(MINIMAL)
            .unwrap()
            .section::<Data>("data")
            .unwrap_err();
        let message = message.to_string();
        assert!(
            message.contains("[data]") && message.contains("threads"),
            "{message}"
        );
    }

    #[test]
    fn a_written_recipe_is_the_same_recipe() {
        let recipe = Recipe::parse(MINIMAL).unwrap();
        assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe);
    }

    #[test]
    fn only_what_changes_the_run_counts_as_a_difference() {
        let before = load(MINIMAL, &[]).unwrap();
        let after = load(MINIMAL, &["data.threads=8", "log.every=1", "run.out=other"]).unwrap();
        assert_eq!(before.differences(&after), Vec::<String>::new());
        let after = load(MINIMAL, &["run.seed=1", "run.ema=0.5"]).unwrap();
        assert_eq!(
            before.differences(&after),
            ["run.ema: absent → 0.5", "run.seed: 0 → 1"]
        );
    }

    #[test]
    fn steps_come_from_epochs_and_whole_groups_of_batches() {
        let recipe = load(MINIMAL, &["run.accumulate=4"]).unwrap();
        assert_eq!(recipe.total_steps(11).unwrap(), 6);
        assert!(recipe.total_steps(3).is_err());
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for bad in [
            "run.steps=5",
            "run.accumulate=0",
            "run.logit_scale_range=[2.0]",
            "run.ema=1.0",
        ] {
            assert!(load(MINIMAL, &[bad]).is_err(), "{bad}");
        }
    }
}
