//! The stages of a file, run one after another.

use super::contrastive::ContrastiveOptions;
use super::data::TextTable;
use super::predict::{LmOptions, MntpOptions};
use super::rate::CaptionSet;
use super::run::{STAGES, Stage, Summary, contrastive, lm, mntp};
use super::tables::{LlmTable, LmTable, precision};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use std::collections::BTreeMap;
use std::path::Path;
use train::{Launch, Recipe, Result, TrainError};

/// The stages of a file, each a whole recipe.
#[derive(Clone, Debug)]
pub struct Plan(pub Vec<(Stage, Recipe)>);

impl Plan {
    /// Reads a file with a table for each of its stages. Overrides begin with the stage: `contrastive.run.steps=10`.
    ///
    /// # Errors
    ///
    /// When it cannot be read or names an unknown stage, when `only` names one that is not there, and when a table has a
    /// field that its reader does not know.
    pub fn load(path: &Path, overrides: &[String], only: &[String]) -> Result<Self> {
        let recipes = Recipe::load_stages(path, overrides)?;
        let names = STAGES.map(|(name, _)| name).join(", ");
        let mut there: Vec<&String> = recipes.keys().collect();
        there.retain(|name| !STAGES.iter().any(|(stage, _)| stage == name));
        if let Some(name) = there.first() {
            let message = format!("[{name}] is no stage; there are {names}");
            return Err(TrainError::Recipe {
                path: path.into(),
                message,
            });
        }
        if let Some(name) = only.iter().find(|name| !recipes.contains_key(*name)) {
            let message = format!(
                "no stage `{name}` in this file; it has {}",
                list(recipes.keys())
            );
            return Err(TrainError::Recipe {
                path: path.into(),
                message,
            });
        }
        let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
        let mut recipes: BTreeMap<String, Recipe> = recipes;
        let stages = STAGES.into_iter().filter(|(name, _)| wanted(name));
        let stages = stages.filter_map(|(name, stage)| Some((stage, recipes.remove(name)?)));
        let mut plan = Self(stages.collect());
        plan.0
            .iter_mut()
            .try_for_each(|(stage, recipe)| check(*stage, recipe))?;
        Ok(plan)
    }

    /// Trains one stage after another. A stage that was stopped is the last.
    ///
    /// # Errors
    ///
    /// Those of [`train::run()`]; when a stage's data or model cannot be read, or its folder has a language model already.
    pub fn run<B: AutodiffBackend>(
        self,
        launch: &Launch,
        device: &Device<B::InnerBackend>,
        report: &mut dyn FnMut(&Summary),
    ) -> Result<Vec<Summary>> {
        let mut summaries = Vec::new();
        for (stage, recipe) in self.0 {
            let summary = match stage {
                Stage::Lm => lm::<B>(recipe, launch, device)?,
                Stage::Mntp => mntp::<B>(recipe, launch, device)?,
                Stage::Contrastive => contrastive::<B>(recipe, launch, device)?,
            };
            report(&summary);
            let stopped = summary.stopped;
            summaries.push(summary);
            if stopped {
                break;
            }
        }
        Ok(summaries)
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Reads every table of a stage once, so that a misspelt field is found before the first stage trains.
fn check(stage: Stage, recipe: &mut Recipe) -> Result<()> {
    recipe.section::<TextTable>()?;
    match stage {
        Stage::Lm => {
            recipe.section::<LmOptions>()?;
            precision("precision", &recipe.section::<LmTable>()?.precision)?;
        }
        Stage::Mntp => {
            recipe.section::<MntpOptions>()?;
            recipe.section::<LlmTable>()?.load()?;
        }
        Stage::Contrastive => {
            recipe.section::<ContrastiveOptions>()?;
            recipe.section::<CaptionSet>()?;
            recipe.section::<LlmTable>()?.load()?;
        }
    }
    if stage != Stage::Contrastive && !recipe.validation.is_empty() {
        let what = "only the stage `contrastive` has a [validation]; remove the other one";
        return Err(TrainError::Config(what.into()));
    }
    Ok(())
}
