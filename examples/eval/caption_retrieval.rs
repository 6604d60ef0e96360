//! `eval caption-retrieval`: captions by other captions of the same image.

use burn::prelude::*;
use clap::Args;
use clip_burn::eval::datasets::retrieval::{RetrievalOptions, retrieval};
use clip_burn::eval::grid::Job;
use clip_burn::eval::results::RunResult;
use clip_burn::eval::tasks::caption_retrieval::caption_retrieval;
use clip_burn::eval::{EvalError, TextEncoder};
use clip_burn::llm;
use clip_burn::llm2clip::CaptionEncoder;
use clip_burn::models::Model;
use std::path::{Path, PathBuf};

use crate::grid::{Loadable, Loaded, Run, Task, stem};

#[derive(Args, Clone)]
pub struct CaptionRetrieval {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME: their texts.
    /// Without one, --llm names a language model that is scored by itself
    #[arg(long, required_unless_present = "llm")]
    model: Vec<String>,
    /// karpathy, coco, flickr, jsonl, csv, ...: images with at least two captions each
    #[arg(long)]
    format: String,
    /// Annotation file
    #[arg(long)]
    annotations: PathBuf,
    /// Split to score, where the annotations hold several
    #[arg(long, default_value = "test")]
    split: String,
    /// Ranks within which a hit counts
    #[arg(long, value_delimiter = ',', default_value = "1,5,10")]
    recall_k: Vec<usize>,
    /// Name of the data set in results [default: of the annotation file]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    run: Run,
}

/// What embeds the captions.
#[allow(clippy::large_enum_variant)] // one per program
pub enum Texts<B: Backend> {
    /// A model of images and texts.
    Model(Model<B>),
    /// A language model by itself.
    Llm(CaptionEncoder<B>),
}

impl<B: Backend> Loadable<B> for Texts<B> {
    fn load(argument: &str, run: &Run, device: &B::Device) -> Result<Self, EvalError> {
        if run.llm.as_deref() != Some(Path::new(argument)) {
            return Loadable::load(argument, run, device).map(Self::Model);
        }
        let precision = run.compute.precision;
        let options = llm::LoadOptions {
            precision,
            weights: precision,
        };
        let encoder = CaptionEncoder::load(Path::new(argument), &options, device);
        let encoder = encoder.map_err(|error| EvalError::Encoder(error.to_string()))?;
        Ok(Self::Llm(encoder))
    }
}

impl<B: Backend> Texts<B> {
    fn encoder(&self) -> &dyn TextEncoder<B> {
        match self {
            Self::Model(model) => model,
            Self::Llm(encoder) => encoder,
        }
    }
}

impl<B: Backend> TextEncoder<B> for Texts<B> {
    fn embed_dim(&self) -> usize {
        self.encoder().embed_dim()
    }

    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<B, 2>, EvalError> {
        self.encoder().text_embeddings(texts)
    }

    fn identity(&self) -> Result<Option<String>, EvalError> {
        self.encoder().identity()
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        self.encoder().truncated(texts)
    }
}

impl Task for CaptionRetrieval {
    type Model<B: Backend> = Texts<B>;

    fn name(&self) -> &'static str {
        "caption_retrieval"
    }

    fn run(&self) -> &Run {
        &self.run
    }

    fn models(&self) -> Vec<String> {
        let alone = || self.run.llm.iter().map(|path| path.display().to_string());
        match self.model.is_empty() {
            true => alone().collect(),
            false => self.model.clone(),
        }
    }

    fn datasets(&self) -> Result<Vec<String>, EvalError> {
        let name = self.name.clone();
        Ok(vec![name.unwrap_or_else(|| stem(&self.annotations))])
    }

    fn evaluate<B: Backend>(
        &self,
        model: &Loaded<Texts<B>>,
        job: &Job,
        _device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let options = RetrievalOptions {
            split: self.split.clone(),
            language: job.language.clone(),
            ..RetrievalOptions::default()
        };
        let data = retrieval(&self.format, &self.annotations, Path::new(""), &options)?;
        let recall_k = self.recall_k.as_slice();
        let outcome = caption_retrieval(&model.model, &data, recall_k, &self.run.extraction())?;
        Ok(outcome.named(&job.dataset, "", "", &job.language))
    }
}
