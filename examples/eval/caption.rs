//! `eval caption`: what a captioner says, beside what others said.

use anyhow::Result;
use burn::prelude::*;
use clap::{Args, ValueEnum};
use clip_burn::eval::EvalError;
use clip_burn::eval::datasets::caption::{CaptionData, caption_shards};
use clip_burn::eval::datasets::retrieval::{RetrievalOptions, retrieval};
use clip_burn::eval::grid::Job;
use clip_burn::eval::results::RunResult;
use clip_burn::eval::tasks::caption::{Shown, caption};
use clip_burn::models::Model;
use std::path::{Path, PathBuf};

use crate::grid::{Loaded, Run, Task, stem};

#[derive(Args, Clone)]
pub struct Caption {
    /// Model directories with a captioner
    #[arg(long, required = true)]
    model: Vec<String>,
    /// Webdataset shards, such as {00000..00009}.tar: the .txt is read beside the image
    #[arg(long, required_unless_present = "format", conflicts_with = "format")]
    shards: Option<String>,
    /// Field of the shards' .json that should be written
    #[arg(long, default_value = "synthetic")]
    field: String,
    /// karpathy, coco, flickr, jsonl, csv, ...: images with captions, nothing is read beside them
    #[arg(long, requires = "annotations")]
    format: Option<String>,
    /// Annotation file
    #[arg(long)]
    annotations: Option<PathBuf>,
    /// Folder that shards or image paths are relative to
    #[arg(long)]
    images: Option<PathBuf>,
    /// Split to score, where the annotations hold several
    #[arg(long, default_value = "test")]
    split: String,
    /// Which image is shown: its own, another one, or nothing but the mean colour
    #[arg(long, value_enum, default_value_t = ShownArg::Own)]
    shown: ShownArg,
    /// Do not let the model read the .txt of the shards
    #[arg(long)]
    no_web: bool,
    /// Name of the data set in results [default: of the annotations or the folder]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    run: Run,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ShownArg {
    Own,
    Another,
    Nothing,
}

impl Caption {
    fn dataset(&self) -> String {
        let folder = self.images.as_deref().map(stem);
        let of_files = || {
            self.annotations
                .as_deref()
                .map(stem)
                .or(folder)
                .unwrap_or("captions".into())
        };
        let mut name = self.name.clone().unwrap_or_else(of_files);
        for (said, what) in [
            (self.shown == ShownArg::Another, "another_image"),
            (self.shown == ShownArg::Nothing, "no_image"),
            (self.no_web, "no_web_caption"),
        ] {
            if said {
                name += &format!("_{what}");
            }
        }
        name
    }

    fn data(&self) -> Result<CaptionData, EvalError> {
        let images = self.images.as_deref().unwrap_or(Path::new(""));
        let mut data = match (&self.shards, &self.format) {
            (Some(shards), _) => caption_shards(shards, images, &self.field)?,
            (None, format) => {
                let options = RetrievalOptions {
                    split: self.split.clone(),
                    ..RetrievalOptions::default()
                };
                let format = format.as_deref().unwrap_or_default();
                let annotations = self.annotations.as_deref().unwrap_or(Path::new(""));
                retrieval(format, annotations, images, &options)?.into()
            }
        };
        if self.no_web {
            data.web.iter_mut().for_each(String::clear);
        }
        Ok(data)
    }
}

impl Task for Caption {
    type Model<B: Backend> = Model<B>;

    fn name(&self) -> &'static str {
        "image_captioning"
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

    fn evaluate<B: Backend>(
        &self,
        model: &Loaded<Model<B>>,
        job: &Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let captioner = model
            .model
            .captioner()
            .map_err(|error| EvalError::Encoder(format!("{}: {error}", job.model)))?;
        let shown = match self.shown {
            ShownArg::Own => Shown::Own,
            ShownArg::Another => Shown::Another,
            ShownArg::Nothing => Shown::Nothing,
        };
        let mut outcome = caption(
            captioner,
            &self.data()?,
            shown,
            &self.run.extraction(),
            device,
        )?;
        outcome.details.split = self.split.clone();
        Ok(outcome.named(&job.dataset, "", "", &job.language))
    }
}
