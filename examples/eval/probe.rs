//! `eval linear-probe`.

use burn::prelude::*;
use clap::{ArgAction, Args, ValueEnum};
use clip_burn::eval::EvalError;
use clip_burn::eval::datasets::{ClassificationData, Split};
use clip_burn::eval::grid::Job;
use clip_burn::eval::probe::{
    FeatureCache, Labelled, NearestOptions, ProbeOptions, check_disjoint, linear_probe,
    nearest_probe,
};
use clip_burn::eval::results::RunResult;
use clip_burn::models::Model;
use std::path::PathBuf;

use crate::data::DataArgs;
use crate::grid::{Loaded, Run, Task};

#[derive(Args, Clone)]
pub struct Probe {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required = true)]
    model: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    /// What classifies the embeddings
    #[arg(long, value_enum, default_value_t = Method::Linear)]
    method: Method,
    /// Split to learn from
    #[arg(long, default_value = "train")]
    train_split: String,
    /// Split on which the weight decay is chosen
    #[arg(long, conflicts_with = "val_proportion")]
    val_split: Option<String>,
    /// Share of the training split on which the weight decay is chosen
    #[arg(long, default_value_t = 0.0)]
    val_proportion: f64,
    /// Training images per class [default: all]
    #[arg(long)]
    fewshot_k: Option<usize>,
    /// Passes over the training images
    #[arg(long, default_value_t = 10)]
    epochs: usize,
    /// Learning rate at the start
    #[arg(long, default_value_t = 0.1)]
    lr: f64,
    /// Scale embeddings to unit length before the linear layer
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    normalize: bool,
    /// Images that vote, for knn
    #[arg(long, default_value_t = 20)]
    neighbours: usize,
    /// Folder where embeddings are kept
    #[arg(long, default_value = "features")]
    feature_root: PathBuf,
    #[command(flatten)]
    run: Run,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Method {
    /// A linear layer, trained as CLIP_benchmark does
    Linear,
    /// A vote of the nearest training images: nothing is trained
    Knn,
}

impl Task for Probe {
    type Model<B: Backend> = Model<B>;

    fn name(&self) -> &'static str {
        match self.method {
            Method::Linear => "linear_probe",
            Method::Knn => "knn_probe",
        }
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

    fn options(&self) -> Vec<(&'static str, Option<String>)> {
        let unless = |value: String, default: &str| (value != default).then_some(value);
        let train = unless(self.train_split.clone(), "train");
        if self.method == Method::Knn {
            let neighbours = unless(self.neighbours.to_string(), "20");
            return vec![("train-split", train), ("neighbours", neighbours)];
        }
        vec![
            ("train-split", train),
            ("val-split", self.val_split.clone()),
            (
                "val-proportion",
                unless(self.val_proportion.to_string(), "0"),
            ),
            ("lr", unless(self.lr.to_string(), "0.1")),
            ("batch-size", unless(self.run.batch_size.to_string(), "64")),
        ]
    }

    fn evaluate<B: Backend>(
        &self,
        model: &Loaded<Model<B>>,
        job: &Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let cache = FeatureCache {
            dir: self.feature_root.clone(),
            model: format!("{} {}", model.identity, self.run.compute.precision),
        };
        let open = |split: Split| self.data.open(&job.dataset, split);
        let train = open(Split::Named(&self.train_split))?;
        let test = open(self.data.split(&job.dataset))?;
        let val = self.val_split.as_deref().map(|val| open(Split::Named(val)));
        let val = val.transpose()?;
        check_disjoint(&train, &test)?;
        if let Some(val) = &val {
            check_disjoint(&train, val)?;
            check_disjoint(val, &test)?;
        }
        let mut bad = Vec::new();
        let mut embed = |data: &ClassificationData| {
            let options = self.run.extraction();
            let (features, unreadable) = cache.features(&model.model, data, &options, device)?;
            bad.extend(unreadable);
            Ok::<Labelled, EvalError>(features)
        };
        let (split, notes) = (test.split.clone(), test.notes.clone());
        let (train, test) = (embed(&train)?, embed(&test)?);
        let mut outcome = match self.method {
            Method::Linear => {
                let val = val.as_ref().map(embed).transpose()?;
                linear_probe::<B>(&train, val.as_ref(), &test, &self.linear(), device)?
            }
            Method::Knn => nearest_probe(&train, &test, &self.nearest())?,
        };
        outcome.details.split = split;
        outcome.details.notes.extend(notes);
        outcome.details.bad_images = bad;
        Ok(outcome.named(&job.dataset, "", "", &job.language))
    }
}

impl Probe {
    fn linear(&self) -> ProbeOptions {
        ProbeOptions {
            fewshot_k: self.fewshot_k,
            epochs: self.epochs,
            lr: self.lr,
            batch_size: self.run.batch_size,
            seed: self.run.seed,
            val_proportion: self.val_proportion,
            normalize: self.normalize,
        }
    }

    fn nearest(&self) -> NearestOptions {
        NearestOptions {
            neighbours: self.neighbours,
            fewshot_k: self.fewshot_k,
            seed: self.run.seed,
            ..NearestOptions::default()
        }
    }
}
