//! `eval choice`.

use burn::prelude::*;
use clap::{Args, ValueEnum};
use clip_burn::eval::datasets::choice::{sugar_crepe, winoground};
use clip_burn::eval::grid::Job;
use clip_burn::eval::results::RunResult;
use clip_burn::eval::{EvalError, tasks};
use std::path::PathBuf;

use crate::grid::{Loaded, Run, Task, stem};

#[derive(Args, Clone)]
pub struct Choice {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required = true)]
    model: Vec<String>,
    #[arg(long, value_enum)]
    format: Format,
    /// Annotation file
    #[arg(long)]
    annotations: PathBuf,
    /// Folder that image names are relative to
    #[arg(long)]
    images: PathBuf,
    #[command(flatten)]
    run: Run,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// One image, the right caption and a wrong one: add_att.json and its siblings
    #[value(name = "sugarcrepe")]
    SugarCrepe,
    /// Two images and two captions of the same words: examples.jsonl
    Winoground,
}

impl Task for Choice {
    fn name(&self) -> &'static str {
        "image_caption_selection"
    }

    fn run(&self) -> &Run {
        &self.run
    }

    fn models(&self) -> &[String] {
        &self.model
    }

    fn datasets(&self) -> Result<Vec<String>, EvalError> {
        Ok(vec![stem(&self.annotations)])
    }

    fn evaluate<B: Backend>(
        &self,
        model: &Loaded<B>,
        job: &Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let data = match self.format {
            Format::SugarCrepe => sugar_crepe(&self.annotations, &self.images)?,
            Format::Winoground => winoground(&self.annotations, &self.images)?,
        };
        let outcome = tasks::choice::choice(&model.clip, &data, &self.run.extraction(), device)?;
        Ok(outcome.named(&data.name, "", "", &job.language))
    }
}
