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
                         {{language}} in the name",
                        output.display()
                    );
                    return Err(EvalError::Option {
                        option: "--output",
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
    pub failed: Vec<(Job, String)>,
}

/// Runs all jobs and writes each result as soon as it is there; `written` hears of it. With `skip_existing`, a run whose file holds a result
/// is left out; a file that holds something else is an error of that run and stays as it is.
pub fn run_grid(
    jobs: &[Job],
    skip_existing: bool,
    mut run: impl FnMut(&Job) -> Result<RunResult>,
    mut written: impl FnMut(&RunResult, &Path),
) -> GridOutcome {
    let mut outcome = GridOutcome::default();
    for job in jobs {
        if skip_existing && job.output.exists() {
            match RunResult::load(&job.output) {
                Ok(_) => outcome.skipped.push(job.output.clone()),
                Err(error) => outcome.failed.push((job.clone(), error.to_string())),
            }
            continue;
        }
        match run(job).and_then(|result| store(result, &job.output)) {
            Ok(result) => {
                written(&result, &job.output);
                outcome.results.push(result);
            }
            Err(error) => outcome.failed.push((job.clone(), error.to_string())),
        }
    }
    outcome
}

fn store(result: RunResult, path: &Path) -> Result<RunResult> {
    result.save(path)?;
    Ok(result)
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
        let outcome = run_grid(&jobs, true, half, |_, path| {
            seen += usize::from(path.exists())
        });
        let lens = (outcome.results.len(), outcome.failed.len());
        assert_eq!((calls, seen, lens), (8, 4, (4, 4)));
        assert!(outcome.failed[0].1.contains("is broken"));
        let whole = |job: &Job| Ok(run(&job.dataset, &job.model, "t", json!({})));
        let again = run_grid(&jobs, true, whole, |_, _| {});
        assert_eq!((again.skipped.len(), again.results.len()), (4, 4));
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
