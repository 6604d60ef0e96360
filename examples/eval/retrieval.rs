//! `eval retrieval`, with a model or with stored embeddings.

use anyhow::Result;
use burn::prelude::*;
use clap::{Args, ValueEnum};
use clip_burn::eval::datasets::retrieval::{
    RetrievalData, RetrievalOptions, has_splits, retrieval,
};
use clip_burn::eval::grid::Job;
use clip_burn::eval::metrics::retrieval::Ties;
use clip_burn::eval::results::RunResult;
use clip_burn::eval::tasks::retrieval::{Scoring, retrieval_of_features};
use clip_burn::eval::{EvalError, tasks};
use clip_burn::models::Model;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::grid::{Loaded, Run, Task, stem};
use crate::stored::StoredFeatures;

#[derive(Args, Clone)]
pub struct Retrieval {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required_unless_present = "image_features")]
    model: Vec<String>,
    /// karpathy, coco, flickr, blip, urban1k, docci, sharegpt4v, xm3600, xtd, chinese-clip, wds, jsonl or csv
    #[arg(long)]
    format: String,
    /// Annotation file (a folder for urban1k, xtd and wds)
    #[arg(long)]
    annotations: PathBuf,
    /// Folder that image paths are relative to
    #[arg(long)]
    images: Option<PathBuf>,
    /// Split to score, where the annotations hold several: karpathy, docci, wds [default: test]
    #[arg(long)]
    split: Option<String>,
    /// Ranks within which a hit counts
    #[arg(long, value_delimiter = ',', default_value = "1,5,10")]
    recall_k: Vec<usize>,
    /// How exact ties of a right and a wrong answer count
    #[arg(long, value_enum, default_value_t = TiesArg::Stable)]
    ties: TiesArg,
    /// Name of the data set in results [default: of the annotation file]
    #[arg(long)]
    name: Option<String>,
    /// Use only the first captions of an image
    #[arg(long)]
    max_captions: Option<usize>,
    /// Read line breaks inside captions as spaces
    #[arg(long)]
    join_lines: bool,
    #[command(flatten)]
    stored: StoredFeatures,
    #[command(flatten)]
    run: Run,
}

#[derive(Clone, Copy, ValueEnum)]
enum TiesArg {
    /// The lower index wins
    Stable,
    /// The right answer wins
    Optimistic,
    /// The wrong answer wins
    Pessimistic,
}

impl Retrieval {
    /// Scores stored embeddings if there are any: no model is loaded and no backend started.
    pub fn of_features(&self) -> Option<Result<ExitCode>> {
        let datasets = [self.dataset()];
        self.stored.score(self, &datasets, |job, images, texts| {
            let (data, options) = (self.data(&job.language)?, self.run.extraction());
            let outcome = retrieval_of_features(&data, images, texts, self.scoring(), &options)?;
            Ok(outcome.named(&job.dataset, "", "", &job.language))
        })
    }

    fn dataset(&self) -> String {
        let of_annotations = || match self.format.as_str() {
            "urban1k" | "docci" | "sharegpt4v" | "xm3600" => self.format.clone(),
            _ => stem(&self.annotations),
        };
        self.name.clone().unwrap_or_else(of_annotations)
    }

    fn data(&self, language: &str) -> Result<RetrievalData, EvalError> {
        if let Some(split) = self.split.as_deref().filter(|_| !has_splits(&self.format)) {
            return Err(EvalError::Option {
                option: "split",
                reason: format!(
                    "`{split}` would not be used: a file of the format {} is one split",
                    self.format
                ),
            });
        }
        let default = RetrievalOptions::default();
        let options = RetrievalOptions {
            split: self.split.clone().unwrap_or(default.split),
            language: language.into(),
            max_captions: self.max_captions,
            join_lines: self.join_lines,
        };
        let images = self.images.as_deref().unwrap_or(Path::new(""));
        retrieval(&self.format, &self.annotations, images, &options)
    }

    fn scoring(&self) -> Scoring {
        let ties = match self.ties {
            TiesArg::Stable => Ties::Stable,
            TiesArg::Optimistic => Ties::Optimistic,
            TiesArg::Pessimistic => Ties::Pessimistic,
        };
        Scoring {
            recall_k: self.recall_k.clone(),
            ties,
        }
    }
}

impl Task for Retrieval {
    type Model<B: Backend> = Model<B>;

    fn name(&self) -> &'static str {
        "zeroshot_retrieval"
    }

    fn run(&self) -> &Run {
        &self.run
    }

    fn models(&self) -> Vec<String> {
        self.model.clone()
    }

    fn datasets(&self) -> Result<Vec<String>, EvalError> {
        Ok(vec![self.dataset()])
    }

    fn options(&self) -> Vec<(&'static str, Option<String>)> {
        let ties = match self.ties {
            TiesArg::Stable => None,
            TiesArg::Optimistic => Some("optimistic".to_string()),
            TiesArg::Pessimistic => Some("pessimistic".to_string()),
        };
        vec![
            ("ties", ties),
            ("max-captions", self.max_captions.map(|n| n.to_string())),
            ("join-lines", self.join_lines.then(|| "true".into())),
        ]
    }

    fn evaluate<B: Backend>(
        &self,
        model: &Loaded<Model<B>>,
        job: &Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let data = self.data(&job.language)?;
        let (scoring, options) = (self.scoring(), self.run.extraction());
        let clip = &model.model;
        let outcome = tasks::retrieval::retrieval(clip, &data, scoring, &options, device)?;
        Ok(outcome.named(&job.dataset, "", "", &job.language))
    }
}
