//! Recipes: TOML files that describe a run completely.
//!
//! The tables of the engine are parsed here; `[model]`, `[data]` and `[method]` are read by those who know
//! them, through [`Recipe::section`]. Unknown fields are refused everywhere.

mod changes;
mod overrides;
mod tables;

pub use tables::{LogConfig, RunConfig};

use crate::checkpoint::CheckpointConfig;
use crate::error::{Result, TrainError};
use crate::optimizer::{AdamWConfig, ScheduleConfig};
use crate::parameters::groups::GroupsConfig;
use overrides::set;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// One of the open tables (`model`, `data`, `method`, `validation`), as its owner reads it.
pub trait Section: Serialize + DeserializeOwned {
    /// Name of the table.
    const NAME: &'static str;

    /// Makes relative paths start at `folder`, the recipe's.
    fn resolve(&mut self, _folder: &Path) {}
}

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

    /// Reads a file of several recipes, one table each, with overrides of the form `stage.table.field=value`. Paths are
    /// relative to the file's folder.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); and when something at the top of the file, or the first name of an override, is no stage.
    pub fn load_stages(path: &Path, overrides: &[String]) -> Result<BTreeMap<String, Self>> {
        let refused = |message: String| TrainError::Recipe {
            path: path.to_path_buf(),
            message,
        };
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        let mut stages: Table = toml::from_str(&text).map_err(|e| refused(e.to_string()))?;
        for assignment in overrides {
            let stage = assignment
                .split_once('.')
                .and_then(|(stage, rest)| Some((stages.get_mut(stage)?.as_table_mut()?, rest)));
            let Some((stage, rest)) = stage else {
                let names: Vec<_> = stages.keys().map(String::as_str).collect();
                let names = names.join(", ");
                let what =
                    format!("the override `{assignment}` should begin with a stage of {names}");
                return Err(refused(what));
            };
            set(stage, rest).map_err(refused)?;
        }
        let recipe = |(name, stage): (String, Value)| {
            let within = |error: String| refused(format!("in [{name}]: {}", error.trim()));
            let mut recipe: Self = stage
                .try_into()
                .map_err(|e: toml::de::Error| within(e.to_string()))?;
            recipe.file = path.to_path_buf();
            recipe.check().map_err(|e| within(e.to_string()))?;
            Ok((name, recipe))
        };
        stages.into_iter().map(recipe).collect()
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

    /// The recipe as TOML, with the defaults of all tables that were read by [`section`](Self::section) and with their
    /// paths resolved, so that it can be run again from anywhere.
    pub fn to_toml(&self) -> String {
        let mut whole = self.clone();
        whole.run.out = self.out();
        toml::to_string_pretty(&whole).expect("a recipe is plain data")
    }

    /// Where a path of the recipe leads: relative ones start at the recipe's folder.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let path = folder.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Folder of the run.
    pub fn out(&self) -> PathBuf {
        self.resolve(&self.run.out)
    }

    /// Reads one of the open tables into its owner's type: paths resolved, defaults filled in, here and in the recipe.
    ///
    /// # Errors
    ///
    /// When the table does not fit the type; a type with `deny_unknown_fields` refuses what it does not
    /// know.
    pub fn section<T: Section>(&mut self) -> Result<T> {
        let refused = |message: String| TrainError::Recipe {
            path: self.file.clone(),
            message: format!("in [{}]: {}", T::NAME, message.trim()),
        };
        let folder = self.resolve("");
        let table = match T::NAME {
            "model" => &mut self.model,
            "data" => &mut self.data,
            "method" => &mut self.method,
            "validation" => &mut self.validation,
            other => panic!("a recipe has no open table `{other}`"),
        };
        let value = Value::Table(table.clone());
        let mut section: T = value
            .try_into()
            .map_err(|e: toml::de::Error| refused(e.to_string()))?;
        section.resolve(&folder);
        *table = Table::try_from(&section).map_err(|e| refused(e.to_string()))?;
        Ok(section)
    }

    /// `model.precision`, or its default.
    pub fn precision(&self) -> String {
        let precision = self.model.get("precision").and_then(Value::as_str);
        precision.unwrap_or("f32").to_string()
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
        for no_field in ["lr", "lr=1"] {
            let message = load(MINIMAL, &[no_field]).unwrap_err().to_string();
            assert!(message.contains("table.field=value"), "{message}");
        }
    }

    #[test]
    fn a_file_of_stages_is_a_recipe_for_each_of_its_tables() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stages.toml");
        std::fs::write(
            &path,
            "[a.run]\nsteps = 1\n[b.run]\nepochs = 2\nout = \"x\"\n",
        )
        .unwrap();
        let stages = |set: &str| Recipe::load_stages(&path, &[set.to_string()]);
        let read = stages("b.optimizer.lr=0.5").unwrap();
        assert_eq!(
            (read["a"].run.steps, read["b"].optimizer.lr),
            (Some(1), 0.5)
        );
        assert_eq!(read["b"].out(), folder.path().join("x"));
        assert!(
            stages("c.run.steps=1")
                .unwrap_err()
                .to_string()
                .contains("a, b")
        );
        assert!(
            stages("a.run.stops=1")
                .unwrap_err()
                .to_string()
                .contains("[a]")
        );
    }

    #[test]
    fn steps_and_epochs_replace_each_other() {
        let run = |overrides: &[&str]| load(MINIMAL, overrides).unwrap().run;
        let steps = run(&["run.steps=2"]);
        assert_eq!((steps.steps, steps.epochs), (Some(2), None));
        let epochs = run(&["run.steps=2", "run.epochs=5"]);
        assert_eq!((epochs.steps, epochs.epochs), (None, Some(5)));
    }

    #[test]
    fn overrides_reach_into_lists() {
        let text =
            "[run]\nsteps = 1\n[[data.sources]]\npath = \"a\"\n[[data.sources]]\npath = \"b\"\n";
        let recipe = load(text, &["data.sources.1.path=c"]).unwrap();
        assert_eq!(recipe.data["sources"][1]["path"].as_str(), Some("c"));
        assert_eq!(recipe.data["sources"][0]["path"].as_str(), Some("a"));
        let message = load(text, &["data.sources.2.path=c"])
            .unwrap_err()
            .to_string();
        assert!(message.contains("0 to 1"), "{message}");
    }

    #[test]
    fn paths_start_at_the_recipe() {
        let recipe = load(MINIMAL, &[]).unwrap();
        assert_eq!(recipe.resolve("x.tar").parent(), recipe.file.parent());
        assert!(
            Recipe::parse(MINIMAL)
                .unwrap()
                .resolve("x.tar")
                .is_absolute()
        );
        assert_eq!(recipe.resolve("/abs/x.tar"), Path::new("/abs/x.tar"));
    }

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Shards {
        shards: PathBuf,
        #[serde(default)]
        cache: u32,
    }

    impl Section for Shards {
        const NAME: &str = "data";
        fn resolve(&mut self, folder: &Path) {
            self.shards = folder.join(&self.shards);
        }
    }

    #[test]
    fn a_resolved_recipe_says_all_and_reads_alike_from_anywhere() {
        let text = "[run]\nsteps = 3\nout = \"here\"\n[data]\nshards = \"a.tar\"\n";
        let mut recipe = load(text, &[]).unwrap();
        let shards = recipe.section::<Shards>().unwrap().shards;
        assert!(shards.is_absolute() && shards.ends_with("a.tar"));
        let mut again = Recipe::parse(&recipe.to_toml()).unwrap();
        assert_eq!(again.section::<Shards>().unwrap().shards, shards);
        assert_eq!(again.out(), recipe.out());
        assert_eq!(again.data["cache"].as_integer(), Some(0));
    }

    #[test]
    fn a_section_refuses_what_its_owner_does_not_know() {
        let message = Recipe::parse(MINIMAL)
            .unwrap()
            .section::<Shards>()
            .unwrap_err();
        let message = message.to_string();
        assert!(
            message.contains("[data]") && message.contains("threads"),
            "{message}"
        );
    }

    #[test]
    fn a_written_recipe_is_the_same_recipe() {
        let mut recipe = Recipe::parse(MINIMAL).unwrap();
        recipe.run.out = recipe.out();
        assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe);
    }

    #[test]
    fn only_what_changes_the_run_counts_as_a_difference() {
        let before = load(MINIMAL, &[]).unwrap();
        let after = [
            "data.threads=8",
            "log.every=1",
            "run.out=other",
            "run.check_every=9",
        ];
        let after = load(MINIMAL, &after).unwrap();
        assert_eq!(before.differences(&after), Vec::<String>::new());
        let after = load(MINIMAL, &["run.seed=1", "run.ema=0.5"]).unwrap();
        assert_eq!(
            before.differences(&after),
            ["run.ema: absent → 0.5", "run.seed: 0 → 1"]
        );
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for bad in [
            "run.accumulate=0",
            "run.logit_scale_range=[2.0]",
            "run.ema=1.0",
        ] {
            assert!(load(MINIMAL, &[bad]).is_err(), "{bad}");
        }
    }
}
