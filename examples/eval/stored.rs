//! Embeddings from files in the place of a model.

use anyhow::{Result, anyhow};
use clap::Args;
use clip_burn::eval::features::{IMAGE_FEATURES, TEXT_FEATURES};
use clip_burn::eval::grid::{Job, jobs, run_grid};
use clip_burn::eval::provenance::Provenance;
use clip_burn::eval::results::RunResult;
use clip_burn::eval::{EvalError, Features};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::grid::{Run, Task, options, print, stem, summary};

#[derive(Args, Clone)]
pub struct StoredFeatures {
    /// Score stored embeddings in place of a model: safetensors with `image_features`
    #[arg(long, requires = "text_features", conflicts_with = "model")]
    image_features: Option<PathBuf>,
    /// Likewise with `text_features`
    #[arg(long, requires = "image_features")]
    text_features: Option<PathBuf>,
}

impl StoredFeatures {
    /// Runs a task on the stored embeddings, if there are any; its results are filed under the name of the image file.
    pub fn score(
        &self,
        task: &impl Task,
        datasets: &[String],
        evaluate: impl Fn(&Job, &Features, &Features) -> Result<RunResult, EvalError>,
    ) -> Option<Result<ExitCode>> {
        let (Some(image_file), Some(text_file)) = (&self.image_features, &self.text_features)
        else {
            return None;
        };
        let model = stem(image_file);
        let names = (model.clone(), "features".to_owned());
        let language = &task.run().language[..1];
        let all = jobs(
            &[model],
            datasets,
            language,
            task.name(),
            &task.run().output,
            |_| names.clone(),
        );
        if task.run().dist.given() {
            return Some(Err(anyhow!(
                "--dist: features that are there are rated by one process; leave it out"
            )));
        }
        Some(all.map_err(Into::into).map(|all| {
            let run = |job: &Job| {
                let images = Features::open(image_file, IMAGE_FEATURES)?;
                let texts = Features::open(text_file, TEXT_FEATURES)?;
                let mut result = evaluate(job, &images, &texts)?;
                (result.model, result.pretrained) = names.clone();
                let provenance = Provenance {
                    options: options(task),
                    ..Provenance::new(image_file.display().to_string(), "")
                };
                result.details.get_or_insert_default().provenance = Some(provenance);
                Ok(result)
            };
            summary(&run_grid(
                &Run::share(all, task.run().shard),
                task.run().existing(),
                run,
                print,
            ))
        }))
    }
}
