//! `eval choice`.

use burn::prelude::*;
use clap::{Args, ValueEnum};
use clip_burn::eval::datasets::choice::{ChoiceData, sugar_crepe, winoground};
use clip_burn::eval::datasets::collection::{Collection, SUGAR_CREPE};
use clip_burn::eval::grid::Job;
use clip_burn::eval::results::RunResult;
use clip_burn::eval::{EvalError, tasks};
use clip_burn::models::Model;
use std::path::{Path, PathBuf};

use crate::data::none_there;
use crate::grid::{Loaded, Run, Task, stem};

#[derive(Args, Clone)]
pub struct Choice {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required = true)]
    model: Vec<String>,
    #[arg(long, value_enum, required_unless_present = "dataset")]
    format: Option<Format>,
    /// Annotation file
    #[arg(long, required_unless_present = "dataset")]
    annotations: Option<PathBuf>,
    /// Folder that image names are relative to
    #[arg(long, required_unless_present = "dataset")]
    images: Option<PathBuf>,
    /// sugar_crepe: all of its sets below --root
    #[arg(long, requires = "root", conflicts_with_all = ["format", "annotations", "images"], value_parser = [SUGAR_CREPE])]
    dataset: Option<String>,
    /// Folder with sugar_crepe/*.json and sugar_crepe/val2017/
    #[arg(long, alias = "dataset-root", requires = "dataset")]
    root: Option<PathBuf>,
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

impl Choice {
    fn collection(&self) -> Option<(&'static Collection, &Path)> {
        Some((
            Collection::find(self.dataset.as_deref()?)?,
            self.root.as_deref()?,
        ))
    }

    fn data(&self, dataset: &str) -> Result<ChoiceData, EvalError> {
        if let Some((collection, root)) = self.collection() {
            let folder = root.join(collection.name);
            let annotations = root.join(format!("{dataset}.json"));
            return sugar_crepe(&annotations, &folder.join("val2017"));
        }
        let (Some(annotations), Some(images)) = (&self.annotations, &self.images) else {
            unreachable!("the command line demands them without --dataset")
        };
        match self.format {
            Some(Format::Winoground) => winoground(annotations, images),
            _ => sugar_crepe(annotations, images),
        }
    }
}

impl Task for Choice {
    type Model<B: Backend> = Model<B>;

    fn name(&self) -> &'static str {
        "image_caption_selection"
    }

    fn run(&self) -> &Run {
        &self.run
    }

    fn models(&self) -> Vec<String> {
        self.model.clone()
    }

    fn datasets(&self) -> Result<Vec<String>, EvalError> {
        let Some((collection, root)) = self.collection() else {
            return Ok(self.annotations.iter().map(|path| stem(path)).collect());
        };
        let (there, absent) = collection.below(root);
        if there.is_empty() {
            let reason = none_there(&root.display().to_string(), &absent);
            return Err(EvalError::dataset(collection.name, reason));
        }
        Ok(there.into_iter().map(|place| place.dataset).collect())
    }

    fn absent(&self) -> Vec<String> {
        let collection = self.collection();
        collection.map_or_else(Vec::new, |(collection, root)| collection.below(root).1)
    }

    fn evaluate<B: Backend>(
        &self,
        model: &Loaded<Model<B>>,
        job: &Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let data = self.data(&job.dataset)?;
        let outcome = tasks::choice::choice(&model.model, &data, &self.run.extraction(), device)?;
        Ok(outcome.named(&data.name, "", "", &job.language))
    }
}
