//! The `[validation]` table: data sets on which a model is rated while it trains.

use crate::error::{BoxError, Result, TrainError};
use crate::recipe::{Recipe, Section};
use burn::prelude::*;
use eval::datasets::retrieval::{RetrievalData, RetrievalOptions, retrieval};
use eval::datasets::{ClassificationData, Split, classification};
use eval::prompts::{PromptSources, Prompts};
use eval::tasks;
use eval::{DualEncoder, EvalError, Extraction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The `[validation]` table. Field names are the options of the `eval` example.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationTable {
    /// Images, or texts, at a time.
    pub batch_size: usize,
    /// Data sets to classify.
    pub zero_shot: Vec<ZeroShotTable>,
    /// Data sets to search.
    pub retrieval: Vec<RetrievalTable>,
}

impl Section for ValidationTable {
    const NAME: &'static str = "validation";

    fn resolve(&mut self, folder: &Path) {
        let absolute = |path: &mut PathBuf| *path = folder.join(&*path);
        for table in &mut self.zero_shot {
            absolute(&mut table.root);
            table.classnames.iter_mut().for_each(absolute);
            // A name of packaged templates stays as it is.
            if let Some(templates) = &mut table.templates {
                let file = folder.join(&*templates);
                if file.is_file() {
                    *templates = file.display().to_string();
                }
            }
        }
        for table in &mut self.retrieval {
            absolute(&mut table.annotations);
            absolute(&mut table.images);
        }
    }
}

impl Default for ValidationTable {
    fn default() -> Self {
        Self {
            batch_size: Extraction::default().batch_size,
            zero_shot: Vec::new(),
            retrieval: Vec::new(),
        }
    }
}

/// One `[[validation.zero_shot]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroShotTable {
    /// Before the metrics' names; default: the data set's.
    pub name: Option<String>,
    /// imagenet, imagenetv2, ..., folder or wds/NAME.
    pub dataset: String,
    /// Folder of the data set.
    pub root: PathBuf,
    /// Split; default: `val` if it is there, and `test` for `wds`.
    pub split: Option<String>,
    /// File of class names.
    pub classnames: Option<PathBuf>,
    /// Packaged templates by name, or a file.
    pub templates: Option<String>,
}

/// One `[[validation.retrieval]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrievalTable {
    /// Before the metrics' names; default: the format's.
    pub name: Option<String>,
    /// karpathy, coco, flickr, ...
    pub format: String,
    /// Annotation file.
    pub annotations: PathBuf,
    /// Folder that image paths are relative to.
    #[serde(default)]
    pub images: PathBuf,
    /// Split.
    #[serde(default = "val")]
    pub split: String,
    /// Ranks to report.
    #[serde(default = "recall_k")]
    pub recall_k: Vec<usize>,
}

fn val() -> String {
    "val".into()
}

fn recall_k() -> Vec<usize> {
    vec![1, 5, 10]
}

/// Opened data sets.
pub struct Validation {
    options: Extraction,
    zero_shot: Vec<(String, ClassificationData, Prompts)>,
    retrieval: Vec<(String, RetrievalData, Vec<usize>)>,
}

impl Validation {
    /// Opens the data sets of a recipe's `[validation]`.
    ///
    /// # Errors
    ///
    /// When the table has an unknown field, or a data set or its prompts cannot be read.
    pub fn open(recipe: &mut Recipe) -> Result<Self> {
        let table: ValidationTable = recipe.section()?;
        let failed = |source: EvalError| TrainError::Task {
            what: "opening [validation]",
            source: source.into(),
        };
        let zero_shot = table.zero_shot.iter();
        let zero_shot = zero_shot.map(|table| table.open().map_err(failed));
        let retrieval = table.retrieval.iter();
        let retrieval = retrieval.map(|table| table.open().map_err(failed));
        Ok(Self {
            options: Extraction {
                batch_size: table.batch_size,
                ..Extraction::default()
            },
            zero_shot: zero_shot.collect::<Result<_>>()?,
            retrieval: retrieval.collect::<Result<_>>()?,
        })
    }

    /// True if there is nothing to rate a model by.
    pub fn is_empty(&self) -> bool {
        self.zero_shot.is_empty() && self.retrieval.is_empty()
    }

    /// Checks that the metric that rates checkpoints can be one of these data sets.
    ///
    /// # Errors
    ///
    /// When it begins with none of their names.
    pub fn check_best(&self, best: &str) -> Result<()> {
        let zero_shot = self.zero_shot.iter().map(|(name, ..)| name.as_str());
        let retrieval = self.retrieval.iter().map(|(name, ..)| name.as_str());
        let names: Vec<&str> = zero_shot.chain(retrieval).collect();
        let rest = |name: &&str| best.strip_prefix(*name).is_some_and(|m| m.starts_with('_'));
        if names.is_empty() || names.iter().any(rest) {
            return Ok(());
        }
        let names = names.join(", ");
        Err(TrainError::Config(format!(
            "checkpoint.best = \"{best}\" should read NAME_METRIC, such as {}_acc1; the data sets of \
             [validation] are {names}",
            names.split(", ").next().unwrap_or_default()
        )))
    }

    /// Metrics of a model, named `NAME_METRIC`, such as `imagenet_acc1`.
    ///
    /// # Errors
    ///
    /// When an image cannot be read or a text not be tokenized.
    pub fn rate<B: Backend, E: DualEncoder<B>>(
        &self,
        model: &E,
        device: &B::Device,
    ) -> Result<BTreeMap<String, f64>, BoxError> {
        let mut rated = BTreeMap::new();
        let mut note = |name: &str, metrics: &eval::results::Metrics| {
            let metrics = metrics.iter();
            rated.extend(metrics.filter_map(|(k, v)| Some((format!("{name}_{k}"), v.as_f64()?))));
        };
        for (name, data, prompts) in &self.zero_shot {
            let outcome = tasks::zero_shot::zero_shot(model, data, prompts, &self.options, device)?;
            note(name, &outcome.metrics);
        }
        for (name, data, recall_k) in &self.retrieval {
            let outcome = tasks::retrieval::retrieval(
                model,
                data,
                recall_k.as_slice(),
                &self.options,
                device,
            )?;
            note(name, &outcome.metrics);
        }
        Ok(rated)
    }
}

impl ZeroShotTable {
    fn open(&self) -> Result<(String, ClassificationData, Prompts), EvalError> {
        let split = Split::of_dataset(&self.dataset, self.split.as_deref());
        let data = classification(&self.dataset, &self.root, split)?;
        let sources = PromptSources {
            class_file: self.classnames.as_deref(),
            templates: self.templates.as_deref(),
            own_classes: data.classes.as_deref(),
            own_templates: data.templates.as_ref(),
        };
        let prompts = Prompts::find(&data.name, "en", &sources)?;
        let name = self.name.as_ref().unwrap_or(&self.dataset);
        Ok((name.replace('/', "_"), data, prompts))
    }
}

impl RetrievalTable {
    fn open(&self) -> Result<(String, RetrievalData, Vec<usize>), EvalError> {
        let options = RetrievalOptions {
            split: self.split.clone(),
            ..RetrievalOptions::default()
        };
        let data = retrieval(&self.format, &self.annotations, &self.images, &options)?;
        let name = self.name.clone().unwrap_or_else(|| self.format.clone());
        Ok((name, data, self.recall_k.clone()))
    }
}
