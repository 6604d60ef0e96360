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
    /// `zeroshot_classification`, `zeroshot_retrieval`, `linear_probe`, `knn_probe` or `image_caption_selection`.
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
    /// Captions that were scored.
    pub texts: usize,
    /// Images that could not be read.
    pub bad_images: Vec<BadImage>,
    /// Other things to know.
    pub notes: Vec<String>,
    /// Most frequent mistakes of a classifier.
    pub confusions: Vec<Confusion>,
    /// Examples of image retrieval.
    pub queries: Vec<Query>,
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

/// All results as CSV: dataset, model, pretrained, task, language, the metrics in `metric_order`, model_fullname.
pub fn to_csv(results: &[RunResult]) -> Result<String> {
    let metrics = metric_names(results);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fixed = ["dataset", "model", "pretrained", "task", "language"];
    let columns = fixed
        .into_iter()
        .chain(metrics.iter().map(String::as_str))
        .chain(["model_fullname"]);
    let failed = |e: csv::Error| EvalError::format(Path::new("CSV"), e.to_string());
    writer.write_record(columns).map_err(failed)?;
    for run in results {
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
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn run(dataset: &str, model: &str, task: &str, metrics: Value) -> RunResult {
        let Value::Object(metrics) = metrics else {
            panic!("metrics are an object")
        };
        RunResult {
            dataset: dataset.into(),
            model: model.into(),
            pretrained: "openai".into(),
            task: task.into(),
            metrics,
            language: "en".into(),
            classnames: None,
            templates: None,
            details: None,
        }
    }

    #[test]
    fn a_result_is_clip_benchmarks_json_in_its_key_order_without_nan() {
        let result = run(
            "wds/x",
            "ViT-B-32",
            "zeroshot_classification",
            json!({"acc1": 0.5, "acc5": f64::NAN}),
        );
        assert_eq!(
            serde_json::to_string(&result).unwrap(),
            r#"{"dataset":"wds/x","model":"ViT-B-32","pretrained":"openai","task":"zeroshot_classification","#
                .to_owned()
                + r#""metrics":{"acc1":0.5,"acc5":null},"language":"en"}"#
        );
    }

    #[test]
    fn clip_benchmarks_own_files_are_read_even_with_nan() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        let text = r#"{"dataset": "x", "model": "m", "pretrained": "p", "task": "zeroshot_classification",
            "metrics": {"acc1": 0.25, "acc5": NaN, "mean_per_class_recall": 0.5}, "language": "en"}"#;
        std::fs::write(&path, text).unwrap();
        let result = RunResult::load(&path).unwrap();
        assert_eq!(
            (result.metric("acc1"), result.metric("acc5")),
            (Some(0.25), None)
        );
        result.save(&path).unwrap();
        assert_eq!(RunResult::load(&path).unwrap(), result);
    }

    #[test]
    fn the_csv_has_fixed_columns_with_recalls_in_order() {
        let runs = [
            run(
                "a",
                "m",
                "zeroshot_classification",
                json!({"acc1": 0.5, "acc5": null}),
            ),
            run(
                "b",
                "m",
                "zeroshot_retrieval",
                json!({"image_retrieval_recall@10": 0.9, "image_retrieval_recall@5": 0.75}),
            ),
        ];
        let csv = to_csv(&runs).unwrap();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(
            lines[0],
            "dataset,model,pretrained,task,language,acc1,acc5,image_retrieval_recall@5,image_retrieval_recall@10,model_fullname"
        );
        assert_eq!(
            lines[2],
            "b,m,openai,zeroshot_retrieval,en,,,0.75,0.9,m openai"
        );
    }

    #[test]
    fn a_foreign_file_in_a_folder_is_named_and_the_rest_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("other.json");
        std::fs::write(&foreign, r#"{"name": "package"}"#).unwrap();
        let folder = [dir.path().to_path_buf()];
        assert!(
            load_all(&folder)
                .unwrap_err()
                .to_string()
                .contains("other.json")
        );
        run("a", "m", "t", json!({"acc1": 0.5}))
            .save(&dir.path().join("a.json"))
            .unwrap();
        let (results, skipped) = load_all(&folder).unwrap();
        assert_eq!((results.len(), skipped.len()), (1, 1));
        assert!(
            skipped[0].contains("other.json") && skipped[0].contains("dataset"),
            "{skipped:?}"
        );
        assert!(load_all(&[foreign]).is_err());
    }

    #[test]
    fn file_names_come_from_a_template() {
        let parts = ["wds/vtab/x", "ViT-B-32", "openai", "en", "linear_probe"];
        let name = RunResult::file_name(
            "{dataset}_{pretrained}_{model}_{language}_{task}.json",
            parts,
        );
        assert_eq!(name, "vtab_x_openai_ViT-B-32_en_linear_probe.json");
    }
}
