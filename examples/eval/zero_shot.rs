//! `eval zero-shot`.

use anyhow::Result;
use burn::prelude::*;
use clap::Args;
use clip_burn::eval::EvalError;
use clip_burn::eval::datasets::ClassificationData;
use clip_burn::eval::grid::Job;
use clip_burn::eval::prompts::{PromptSources, Prompts};
use clip_burn::eval::results::RunResult;
use clip_burn::eval::tasks::{self, Outcome};
use clip_burn::models::Model;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::data::DataArgs;
use crate::grid::{Loaded, Run, Task};
use crate::stored::StoredFeatures;

#[derive(Args, Clone)]
pub struct ZeroShot {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required_unless_present = "image_features")]
    model: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    /// openai80, laclip7, clips81, simple or a file [default: the data set's own, else openai80]
    #[arg(long)]
    templates: Option<String>,
    /// File of class names: JSON or one per line
    #[arg(long)]
    classnames: Option<PathBuf>,
    /// Choose only among the classes that have an image, for a part of a data set
    #[arg(long)]
    present_classes: bool,
    /// Keep class names and templates in the result
    #[arg(long)]
    dump_prompts: bool,
    #[command(flatten)]
    stored: StoredFeatures,
    #[command(flatten)]
    run: Run,
}

impl ZeroShot {
    /// Scores stored embeddings if there are any: no model is loaded and no backend started.
    pub fn of_features(&self) -> Option<Result<ExitCode>> {
        let datasets = match self.datasets() {
            Ok(datasets) => datasets,
            Err(error) => return Some(Err(error.into())),
        };
        self.stored.score(self, &datasets, |job, images, texts| {
            let (data, prompts) = self.data(job)?;
            let outcome = tasks::zero_shot::zero_shot_of_features(&data, images, texts, &prompts)?;
            Ok(self.result(outcome, &data.name, job, prompts))
        })
    }

    /// Images with their labels, and prompts.
    fn data(&self, job: &Job) -> Result<(ClassificationData, Prompts), EvalError> {
        let mut data = self
            .data
            .open(&job.dataset, self.data.split(&job.dataset))?;
        let sources = PromptSources {
            class_file: self.classnames.as_deref(),
            templates: self.templates.as_deref(),
            own_classes: data.classes.as_deref(),
            own_templates: data.templates.as_ref(),
        };
        let mut prompts = Prompts::find(&data.name, &job.language, &sources)?;
        if self.present_classes {
            prompts.classes = data.keep_present_classes(&prompts.classes)?;
        }
        Ok((data, prompts))
    }

    fn result(&self, outcome: Outcome, dataset: &str, job: &Job, prompts: Prompts) -> RunResult {
        let mut result = outcome.named(dataset, "", "", &job.language);
        if self.dump_prompts {
            (result.classnames, result.templates) =
                (Some(prompts.classes), Some(prompts.templates));
        }
        result
    }
}

impl Task for ZeroShot {
    type Model<B: Backend> = Model<B>;

    fn name(&self) -> &'static str {
        "zeroshot_classification"
    }

    fn run(&self) -> &Run {
        &self.run
    }

    fn models(&self) -> Vec<String> {
        self.model.clone()
    }

    fn datasets(&self) -> Result<Vec<String>, EvalError> {
        self.data.names()
    }

    fn absent(&self) -> Vec<String> {
        self.data.absent()
    }

    fn evaluate<B: Backend>(
        &self,
        model: &Loaded<Model<B>>,
        job: &Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let (data, prompts) = self.data(job)?;
        let (clip, options) = (&model.model, self.run.extraction());
        let outcome = tasks::zero_shot::zero_shot(clip, &data, &prompts, &options, device)?;
        Ok(self.result(outcome, &data.name, job, prompts))
    }
}
