//! The `[validation]` table: data sets on which a model is rated while it trains.

use crate::error::{BoxError, Result, TrainError};
use crate::recipe::{Recipe, Section};
use burn::prelude::*;
use dist::World;
use eval::datasets::retrieval::{RetrievalData, RetrievalOptions, retrieval};
use eval::datasets::{ClassificationData, Labels, Split, classification};
use eval::prompts::{PromptSources, Prompts};
use eval::tasks;
use eval::{DualEncoder, EvalError, Extraction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// Shares the work of every rating among processes, all of which must ask for it.
    pub fn among(mut self, world: Arc<dyn World>) -> Self {
        self.options.world = world;
        self
    }

    /// True if there is nothing to rate a model by.
    pub fn is_empty(&self) -> bool {
        self.zero_shot.is_empty() && self.retrieval.is_empty()
    }

    /// Checks that the metric that rates checkpoints is one of these data sets, and rises as a model gets better.
    ///
    /// # Errors
    ///
    /// When it is none, with those that there are.
    pub fn check_best(&self, best: &str) -> Result<()> {
        let zero_shot = self.zero_shot.iter().map(|(name, data, _)| {
            let metrics = zero_shot_metrics(&data.labels).iter();
            metrics.map(|m| format!("{name}_{m}")).collect::<Vec<_>>()
        });
        let retrieval = self.retrieval.iter().map(|(name, _, recall_k)| {
            let metrics = retrieval_metrics(recall_k).into_iter();
            metrics.map(|m| format!("{name}_{m}")).collect::<Vec<_>>()
        });
        let known: Vec<String> = zero_shot.chain(retrieval).flatten().collect();
        if self.is_empty() || known.iter().any(|metric| metric == best) {
            return Ok(());
        }
        Err(TrainError::Config(format!(
            "checkpoint.best = \"{best}\" is no metric of [validation] that rises as the model gets better; those are {}",
            known.join(", ")
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

/// What a zero-shot classification reports.
fn zero_shot_metrics(labels: &Labels) -> &'static [&'static str] {
    match labels {
        Labels::Single(_) => &["acc1", "acc5", "mean_per_class_recall"],
        Labels::Multi { .. } => &["mean_average_precision"],
    }
}

/// What a retrieval reports, but for the ranks, which fall as a model gets better.
fn retrieval_metrics(recall_k: &[usize]) -> Vec<String> {
    let both = |k: &usize| ["image", "text"].map(|found| format!("{found}_retrieval_recall@{k}"));
    recall_k.iter().flat_map(both).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use eval::Features;
    use eval::metrics::retrieval::Matches;
    use eval::prompts::Templates;
    use std::collections::BTreeSet;

    /// What the tasks report is what a recipe may name, but for the ranks.
    #[test]
    fn the_metrics_are_those_that_the_tasks_report() {
        let one = || Features::new(vec![1.0], 1).unwrap();
        let rising = |metrics: &eval::results::Metrics| {
            let names = metrics.keys().filter(|name| !name.ends_with("_rank"));
            names.cloned().collect::<BTreeSet<String>>()
        };
        let multi = Labels::Multi {
            classes: 1,
            relevant: vec![true],
        };
        for labels in [Labels::Single(vec![0]), multi] {
            let outcome = tasks::zero_shot::classify(&one(), &one(), &labels, &[]).unwrap();
            let named = zero_shot_metrics(&labels).iter();
            assert_eq!(
                named.map(|m| m.to_string()).collect::<BTreeSet<_>>(),
                rising(&outcome.metrics)
            );
        }
        let matches = Matches::new(1, 1, vec![(0, 0)]).unwrap();
        let (ks, options) = ([1usize, 7], Extraction::default());
        let scored = tasks::retrieval::score(&one(), &one(), &matches, &ks, &options);
        let named: BTreeSet<_> = retrieval_metrics(&ks).into_iter().collect();
        assert_eq!(named, rising(&scored.unwrap().0));
    }

    #[test]
    fn checkpoints_are_rated_by_a_metric_that_is_there_and_rises() {
        let classes = ClassificationData::new("a", Vec::new(), Labels::Single(Vec::new()));
        let prompts = Prompts {
            classes: Vec::new(),
            templates: Templates::named("simple").unwrap(),
        };
        let pairs = RetrievalData {
            name: "b_c".into(),
            images: Vec::new(),
            texts: Vec::new(),
            matches: Matches::new(0, 0, Vec::new()).unwrap(),
            notes: Vec::new(),
            split: String::new(),
        };
        let validation = Validation {
            options: Extraction::default(),
            zero_shot: vec![("a".into(), classes, prompts)],
            retrieval: vec![("b_c".into(), pairs, vec![3])],
        };
        for known in [
            "a_acc1",
            "a_mean_per_class_recall",
            "b_c_text_retrieval_recall@3",
        ] {
            validation.check_best(known).unwrap();
        }
        for unknown in [
            "acc1",
            "a_top1",
            "a_mean_average_precision",
            "b_c_text_retrieval_recall@5",
            "b_c_text_retrieval_mean_rank",
        ] {
            let message = validation.check_best(unknown).unwrap_err().to_string();
            let listed = [unknown, "a_acc5", "b_c_image_retrieval_recall@3"];
            assert!(
                listed.iter().all(|name| message.contains(name)),
                "{message}"
            );
        }
    }
}
