//! Results of runs: one JSON file each in CLIP_benchmark's schema, and all of them as one CSV.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{EvalError, Result};
use crate::extract::BadImage;
use crate::files;
use crate::images::ImageRef;
use crate::prompts::{ClassName, Templates};
use crate::provenance::{PromptsUsed, Provenance};

/// Metric values by name, in the order in which they are written; `null` where a metric is not defined, never NaN.
pub type Metrics = Map<String, Value>;

/// The outcome of one model on one data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Name of the data set, with its `wds/` prefix if it has one.
    pub dataset: String,
    /// Architecture.
    pub model: String,
    /// Where the weights are from.
    pub pretrained: String,
    /// `zeroshot_classification`, `zeroshot_retrieval`, `linear_probe`, `knn_probe`, `image_caption_selection`,
    /// `image_captioning` or `caption_retrieval`.
    pub task: String,
    /// Fractions, not percent.
    pub metrics: Metrics,
    /// Language of the prompts or captions.
    #[serde(default = "english")]
    pub language: String,
    /// Class names, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classnames: Option<Vec<ClassName>>,
    /// Templates, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<Templates>,
    /// What a report shows beyond the metrics. CLIP_benchmark's files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

fn english() -> String {
    "en".into()
}

/// Size and circumstances of a run, and examples for the report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Split of the data set.
    pub split: String,
    /// Images that were scored.
    pub images: usize,
    /// Captions that were scored, or prompts that a classifier was made of.
    pub texts: usize,
    /// Classes that were chosen among; 0 where there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub classes: usize,
    /// Classes of the data set, where some of them were left out: the scores are not the data set's then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_classes: Option<usize>,
    /// What the prompts were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PromptsUsed>,
    /// How the result came about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Images that could not be read.
    pub bad_images: Vec<BadImage>,
    /// Other things to know.
    pub notes: Vec<String>,
    /// Most frequent mistakes of a classifier.
    pub confusions: Vec<Confusion>,
    /// Examples of image retrieval.
    pub queries: Vec<Query>,
    /// Examples of captions that the model wrote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub captions: Vec<Captioned>,
}

impl Details {
    /// `20 of 1000` where only some of the data set's classes were chosen among.
    fn some_classes(&self) -> Option<String> {
        let all = self.all_classes?;
        Some(format!("{} of {all}", self.classes))
    }
}

/// An image with what a model said about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Captioned {
    /// The image.
    pub image: ImageRef,
    /// The caption that the model read beside it; empty where there was none.
    pub web: String,
    /// What the model said.
    pub said: String,
    /// What others said.
    pub references: Vec<String>,
}

/// A class that is taken for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// The right class.
    pub class: String,
    /// What was predicted.
    pub predicted: String,
    /// How many images.
    pub images: usize,
    /// Images of the right class in all.
    pub of: usize,
}

/// A caption and the images that were found for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The caption.
    pub text: String,
    /// Rank of its best right image, from 1.
    pub rank: usize,
    /// The best images, best first.
    pub hits: Vec<Hit>,
    /// A right image, to show where none of the hits is right.
    pub right: Option<ImageRef>,
}

/// One retrieved image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The image.
    pub image: ImageRef,
    /// Its cosine with the query.
    pub score: f32,
    /// True if it belongs to the caption.
    pub right: bool,
}

impl RunResult {
    /// `MODEL PRETRAINED`, the key of CLIP_benchmark's tables.
    pub fn model_fullname(&self) -> String {
        format!("{} {}", self.model, self.pretrained)
            .trim_end()
            .to_owned()
    }

    /// What tells this run from others of the same model, by the name of the circumstance; empty where it is not known or
    /// nothing special.
    pub fn circumstances(&self) -> [(&'static str, String); 6] {
        let details = self.details.as_ref();
        let provenance = details.and_then(|details| details.provenance.as_ref());
        let prompts = details.and_then(|details| details.prompts.as_ref());
        let weights = provenance.map_or("", |p| p.identity.get(..6).unwrap_or(&p.identity));
        [
            (
                "templates",
                prompts.map(PromptsUsed::label).unwrap_or_default(),
            ),
            (
                "precision",
                provenance.map(|p| p.precision.clone()).unwrap_or_default(),
            ),
            ("weights", weights.to_owned()),
            (
                "options",
                provenance.map(Provenance::label).unwrap_or_default(),
            ),
            (
                "split",
                details.map(|d| d.split.clone()).unwrap_or_default(),
            ),
            (
                "classes",
                details.and_then(Details::some_classes).unwrap_or_default(),
            ),
        ]
    }

    /// True if only some classes of the data set were chosen among. Such scores stand beside no published ones.
    pub fn is_partial(&self) -> bool {
        let details = self.details.as_ref();
        details.is_some_and(|details| details.all_classes.is_some())
    }

    /// The value of a metric, if it is a number.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).and_then(Value::as_f64)
    }

    /// Writes the result; an existing file is replaced in one step.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| EvalError::format(path, format!("cannot serialize: {e}")))?;
        files::write(path, &json)
    }

    /// Reads a result of this crate or of CLIP_benchmark, whose bare `NaN` is read as `null`.
    pub fn load(path: &Path) -> Result<Self> {
        let text = files::read_text(path)?;
        serde_json::from_str(&text)
            .or_else(|_| serde_json::from_str(&text.replace(": NaN", ": null")))
            .map_err(|e| EvalError::format(path, format!("not a result file: {e}")))
    }

    /// A file name from a template with `{dataset}`, `{model}`, `{pretrained}`, `{language}` and `{task}`.
    pub fn file_name(
        template: &str,
        [dataset, model, pretrained, language, task]: [&str; 5],
    ) -> String {
        let plain = |name: &str| {
            name.trim_start_matches("wds/")
                .replace(['/', '\\', ' ', ':'], "_")
        };
        template
            .replace("{dataset}", &plain(dataset))
            .replace("{model}", &plain(model))
            .replace("{pretrained}", &plain(pretrained))
            .replace("{language}", &plain(language))
            .replace("{task}", &plain(task))
    }
}

/// Reads result files and the `*.json` files of folders. A foreign file that was named is an error; one that lay in a
/// folder is left out and described in the second list.
pub fn load_all(paths: &[PathBuf]) -> Result<(Vec<RunResult>, Vec<String>)> {
    let (mut results, mut skipped) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            for file in files::sorted_entries(path)? {
                if file.extension().is_some_and(|e| e == "json") {
                    match RunResult::load(&file) {
                        Ok(result) => results.push(result),
                        Err(error) => skipped.push(error.to_string()),
                    }
                }
            }
        } else {
            results.push(RunResult::load(path)?);
        }
    }
    if results.is_empty() {
        let places: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        let reason = format!(
            "no result file in {}; skipped: {}",
            places.join(", "),
            skipped.join("; ")
        );
        return Err(EvalError::Option {
            option: "RESULTS",
            reason,
        });
    }
    Ok((results, skipped))
}

/// For each result the name of its model, with what tells it from others of that name on the same data set: two runs
/// that differ in prompts, precision or weights have two names.
pub fn row_names(results: &[RunResult]) -> Vec<String> {
    let of_model = |run: &RunResult| {
        let same = results
            .iter()
            .filter(|other| other.model_fullname() == run.model_fullname());
        same.collect::<Vec<_>>()
    };
    let shots = |run: &RunResult| run.metric("fewshot_k").map(f64::to_bits);
    let same_column = |a: &RunResult, b: &RunResult| {
        (&a.dataset, &a.task, &a.language, shots(a)) == (&b.dataset, &b.task, &b.language, shots(b))
    };
    let name = |run: &RunResult| {
        let mut name = run.model_fullname();
        let runs = of_model(run);
        for (place, (what, value)) in run.circumstances().into_iter().enumerate() {
            let differs = runs.iter().enumerate().any(|(i, a)| {
                let others = runs[..i].iter().filter(|b| same_column(a, b));
                others
                    .into_iter()
                    .any(|b| a.circumstances()[place] != b.circumstances()[place])
            });
            if differs && !value.is_empty() {
                name += &match what {
                    "weights" | "split" | "classes" => format!(" · {what} {value}"),
                    _ => format!(" · {value}"),
                };
            }
        }
        name
    };
    results.iter().map(name).collect()
}

/// All results as CSV: dataset, model, pretrained, task, language, the metrics in `metric_order`, what is known of
/// the circumstances, model_fullname.
pub fn to_csv(results: &[RunResult]) -> Result<String> {
    let metrics = metric_names(results);
    let circumstances: Vec<_> = results.iter().map(RunResult::circumstances).collect();
    let all = circumstances.first().into_iter().flatten().enumerate();
    let known: Vec<(usize, &str)> = all
        .filter(|(place, _)| {
            circumstances
                .iter()
                .any(|of_run| !of_run[*place].1.is_empty())
        })
        .map(|(place, (name, _))| (place, *name))
        .collect();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fixed = ["dataset", "model", "pretrained", "task", "language"];
    let columns = fixed
        .into_iter()
        .chain(metrics.iter().map(String::as_str))
        .chain(known.iter().map(|(_, name)| *name))
        .chain(["model_fullname"]);
    let failed = |e: csv::Error| EvalError::format(Path::new("CSV"), e.to_string());
    writer.write_record(columns).map_err(failed)?;
    for (run, of_run) in results.iter().zip(&circumstances) {
        let values = metrics.iter().map(|name| match run.metrics.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(value) => value.to_string(),
        });
        let fixed = [
            &run.dataset,
            &run.model,
            &run.pretrained,
            &run.task,
            &run.language,
        ];
        let record: Vec<String> = fixed
            .into_iter()
            .cloned()
            .chain(values)
            .chain(known.iter().map(|(place, _)| of_run[*place].1.clone()))
            .chain([run.model_fullname()])
            .collect();
        writer.write_record(&record).map_err(failed)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|e| EvalError::format(Path::new("CSV"), e.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes [`to_csv`] to a file.
pub fn save_csv(results: &[RunResult], path: &Path) -> Result<()> {
    files::write(path, to_csv(results)?.as_bytes())
}

/// Names of all metrics of some results, sorted by `metric_order`.
pub fn metric_names(results: &[RunResult]) -> Vec<String> {
    let names: BTreeSet<_> = results
        .iter()
        .flat_map(|run| run.metrics.keys())
        .map(|name| metric_order(name))
        .collect();
    names.into_iter().map(|(_, _, name)| name).collect()
}

/// Sorts by name, and `recall@5` before `recall@10`.
fn metric_order(name: &str) -> (String, usize, String) {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (stem, number) = name.split_at(name.len() - digits);
    (
        stem.to_owned(),
        number.parse().unwrap_or(0),
        name.to_owned(),
    )
}

#[cfg(test)]
pub(crate) mod tests;
