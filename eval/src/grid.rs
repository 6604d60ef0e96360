//! Many runs in one call: models × data sets × languages, one result file each, resumable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{EvalError, Result};
use crate::results::RunResult;

/// Name of result files where none is given.
pub const DEFAULT_OUTPUT: &str = "{dataset}_{pretrained}_{model}_{language}_{task}.json";

/// One run of a grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What the command line calls the model.
    pub model: String,
    /// Data set by name.
    pub dataset: String,
    /// Language of prompts or captions.
    pub language: String,
    /// Where the result goes.
    pub output: PathBuf,
}

/// All combinations, models outermost, so that a model is loaded once. `name` splits a model argument into model and
/// pretrained names for the file name. Fails if two runs would write the same file.
pub fn jobs(
    models: &[String],
    datasets: &[String],
    languages: &[String],
    task: &str,
    output: &str,
    name: impl Fn(&str) -> (String, String),
) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    let mut writers: BTreeMap<PathBuf, String> = BTreeMap::new();
    for model in models {
        let (architecture, pretrained) = name(model);
        for dataset in datasets {
            for language in languages {
                let parts = [dataset, &architecture, &pretrained, language, task];
                let output = PathBuf::from(RunResult::file_name(output, parts));
                let run = format!("{model} on {dataset} ({language})");
                if let Some(other) = writers.insert(output.clone(), run.clone()) {
                    let reason = format!(
                        "{} would be written by {other} and by {run}; put {{model}}, {{pretrained}}, {{dataset}} or \
                         {{language}} in the name, or give the models names of their own",
                        output.display()
                    );
                    return Err(EvalError::Option {
                        option: "output",
                        reason,
                    });
                }
                jobs.push(Job {
                    model: model.clone(),
                    dataset: dataset.clone(),
                    language: language.clone(),
                    output,
                });
            }
        }
    }
    Ok(jobs)
}

/// What became of a grid.
#[derive(Debug, Default)]
pub struct GridOutcome {
    /// Results that were computed now.
    pub results: Vec<RunResult>,
    /// Files that were there already.
    pub skipped: Vec<PathBuf>,
    /// Runs that failed, with the reason; the others were not affected.
    pub failed: Vec<(Job, EvalError)>,
}

/// What to do where a result file is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// The run fails before it begins.
    #[default]
    Refuse,
    /// The run is left out if the file holds a result; a file that holds something else is an error of that run.
    Skip,
    /// The file is replaced when the run has ended.
    Replace,
}

/// Runs all jobs and writes each result as soon as it is there; `written` hears of it.
pub fn run_grid(
    jobs: &[Job],
    existing: Existing,
    mut run: impl FnMut(&Job) -> Result<RunResult>,
    mut written: impl FnMut(&RunResult, &Path),
) -> GridOutcome {
    let mut outcome = GridOutcome::default();
    for job in jobs {
        match existing {
            _ if !job.output.exists() => {}
            Existing::Replace => {}
            Existing::Skip => {
                match RunResult::load(&job.output) {
                    Ok(_) => outcome.skipped.push(job.output.clone()),
                    Err(error) => outcome.failed.push((job.clone(), error)),
                }
                continue;
            }
            Existing::Refuse => {
                let reason = format!(
                    "{} exists; overwrite it, skip it or name another",
                    job.output.display()
                );
                let option = "output";
                let error = EvalError::Option { option, reason };
                outcome.failed.push((job.clone(), error));
                continue;
            }
        }
        match run(job).and_then(|result| store(result, &job.output)) {
            Ok(result) => {
                written(&result, &job.output);
                outcome.results.push(result);
            }
            Err(error) => outcome.failed.push((job.clone(), error)),
        }
    }
    outcome
}

fn store(result: RunResult, path: &Path) -> Result<RunResult> {
    result.save(path)?;
    Ok(result)
}

/// Names of architecture and weights for results, from what the command line calls the model.
///
/// Of a path they are taken from the last folder that says something: `runs/a/model` and
/// `runs/a/checkpoints/epoch_32.pt` are `a` and `a-epoch_32`.
pub fn model_names(model: &str, config: Option<&str>) -> (String, String) {
    let path = Path::new(model.trim_start_matches("local-dir:"));
    if clip::is_random(model) {
        let name = Path::new(model.trim_end_matches(".json")).file_name();
        (
            name.unwrap_or_default().to_string_lossy().into_owned(),
            "random".into(),
        )
    } else if let Some(name) = model.strip_prefix("hf-hub:") {
        (name.into(), "hf-hub".into())
    } else if path.is_dir() {
        (telling_name(path), "local".into())
    } else if path.is_file() {
        let stem = |path: &Path| {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let architecture = config.map_or("checkpoint".into(), |config| stem(Path::new(config)));
        (architecture, telling_name(&path.with_extension("")))
    } else {
        (model.into(), "random".into())
    }
}

/// The last component of a path, with those before it as long as they are names that every run has.
fn telling_name(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let mut parts: Vec<String> = Vec::new();
    for component in absolute.components().rev() {
        let std::path::Component::Normal(name) = component else {
            break;
        };
        let name = name.to_string_lossy();
        let (plain, number) = name.split_once(['_', '-']).unwrap_or((&name, ""));
        let is_place =
            ["model", "models", "checkpoint", "checkpoints", "weights"].contains(&&*name);
        let is_common = [
            "best",
            "latest",
            "last",
            "final",
            "ema",
            "pytorch_model",
            "open_clip_pytorch_model",
        ];
        let is_step = ["epoch", "step", "checkpoint"].contains(&plain)
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit());
        if !is_place {
            parts.insert(0, name.clone().into_owned());
        }
        if !(is_place || is_step || is_common.contains(&&*name)) {
            break;
        }
    }
    if parts.is_empty() {
        let name = absolute.file_name().unwrap_or_default();
        return name.to_string_lossy().into_owned();
    }
    parts.join("-")
}

/// A list argument: commas separate, and `FILE.txt` stands for its lines.
pub fn expand_list(arguments: &[String]) -> Result<Vec<String>> {
    let mut items = Vec::new();
    for argument in arguments
        .iter()
        .flat_map(|a| a.split(','))
        .map(str::trim)
        .filter(|a| !a.is_empty())
    {
        let path = Path::new(argument);
        if argument.ends_with(".txt") && path.is_file() {
            let text = crate::files::read_text(path)?;
            items.extend(
                text.lines()
                    .map(|l| l.trim().to_owned())
                    .filter(|l| !l.is_empty()),
            );
        } else {
            items.push(argument.to_owned());
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::run;
    use serde_json::json;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|i| i.to_string()).collect()
    }

    fn no_weights(model: &str) -> (String, String) {
        (model.into(), "random".into())
    }

    #[test]
    fn all_combinations_run_once_and_resume_where_they_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("{model}_{dataset}_{language}.json");
        let jobs = jobs(
            &strings(&["a", "b"]),
            &strings(&["wds/x", "y"]),
            &strings(&["en", "it"]),
            "t",
            output.to_str().unwrap(),
            no_weights,
        )
        .unwrap();
        assert_eq!(jobs.len(), 8);
        let (mut calls, mut seen) = (0, 0);
        let half = |job: &Job| {
            calls += 1;
            if job.dataset == "y" {
                return Err(EvalError::dataset("y", "is broken"));
            }
            Ok(run(&job.dataset, &job.model, "t", json!({"acc1": 0.5})))
        };
        let outcome = run_grid(&jobs, Existing::Skip, half, |_, path| {
            seen += usize::from(path.exists())
        });
        let lens = (outcome.results.len(), outcome.failed.len());
        assert_eq!((calls, seen, lens), (8, 4, (4, 4)));
        assert!(outcome.failed[0].1.to_string().contains("is broken"));
        let whole = |job: &Job| Ok(run(&job.dataset, &job.model, "t", json!({})));
        let again = run_grid(&jobs, Existing::Skip, whole, |_, _| {});
        assert_eq!((again.skipped.len(), again.results.len()), (4, 4));
        let refused = run_grid(&jobs, Existing::default(), whole, |_, _| {});
        assert_eq!(refused.failed.len(), 8);
        assert!(
            refused.failed[0]
                .1
                .to_string()
                .contains("exists; overwrite")
        );
        let replaced = run_grid(&jobs, Existing::Replace, whole, |_, _| {});
        assert_eq!(replaced.results.len(), 8);
    }

    #[test]
    fn a_model_is_named_after_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path.to_str().unwrap().to_owned()
        };
        let of_file = |path: &str| model_names(&file(path), Some("configs/ViT-B-32.json"));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        for run in ["a", "b"] {
            let expected = pair("ViT-B-32", &format!("{run}-epoch_32"));
            assert_eq!(of_file(&format!("{run}/checkpoints/epoch_32.pt")), expected);
        }
        assert_eq!(of_file("laclip_cc3m.pt"), pair("ViT-B-32", "laclip_cc3m"));
        file("run/model/model.safetensors");
        let folder = |path: &str| model_names(dir.path().join(path).to_str().unwrap(), None);
        assert_eq!(folder("run/model"), pair("run", "local"));
        assert_eq!(folder("run"), pair("run", "local"));
        assert_eq!(model_names("ViT-B-32", None), pair("ViT-B-32", "random"));
        assert_eq!(model_names("hf-hub:o/n", None), pair("o/n", "hf-hub"));
    }

    #[test]
    fn two_runs_never_write_the_same_file() {
        let error = jobs(
            &strings(&["a", "b"]),
            &strings(&["x"]),
            &strings(&["en"]),
            "t",
            "{dataset}.json",
            no_weights,
        );
        assert!(error.unwrap_err().to_string().contains("{model}"));
    }

    #[test]
    fn lists_come_from_commas_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("models.txt");
        std::fs::write(&file, "a\n\nb\n").unwrap();
        let list = expand_list(&[format!("x, {}", file.display())]).unwrap();
        assert_eq!(list, ["x", "a", "b"]);
    }
}
