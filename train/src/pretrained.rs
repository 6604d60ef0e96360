//! From a recipe to a trained CLIP on disk: what every method on images and texts has in common.

use crate::collective::Single;
use crate::contrastive::ImageTextBatch;
use crate::data_table::DataTable;
use crate::error::{BoxError, Result, TrainError};
use crate::pairs::{Pairs, TextChoice};
use crate::recipe::Recipe;
use crate::run::{Outcome, Resume, Run, run};
use crate::task::Task;
use crate::validation::Validation;
use burn::module::AutodiffModule;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::preprocess::Augment;
use clip::{Clip, LoadOptions, Precision, Pretrained};
use serde::Deserialize;

/// The `[model]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// Model directory, checkpoint file, preset name (random weights) or hf-hub:ORG/NAME.
    pub name: String,
    /// Config of a bare checkpoint file: a JSON file or the name of a preset.
    pub config: Option<String>,
    /// f32 or bf16.
    #[serde(default = "f32")]
    precision: String,
}

fn f32() -> String {
    Precision::F32.to_string()
}

impl ModelTable {
    /// In what the model computes.
    ///
    /// # Errors
    ///
    /// When the table names no known precision.
    pub fn precision(&self) -> Result<Precision> {
        self.precision
            .parse()
            .map_err(|error| TrainError::Config(format!("model.precision: {error}")))
    }

    /// Loads the model, or makes one with random weights by the recipe's seed. Paths that exist beside the recipe are
    /// taken from there.
    ///
    /// # Errors
    ///
    /// Those of [`Pretrained::load`].
    pub fn load<B: Backend>(&self, recipe: &Recipe, device: &Device<B>) -> Result<Pretrained<B>> {
        let beside = |name: &str| match recipe.resolve(name) {
            path if path.exists() => path.display().to_string(),
            _ => name.to_string(),
        };
        let options = LoadOptions {
            config: self.config.as_deref().map(beside),
            precision: self.precision()?,
            seed: recipe.run.seed,
            ..LoadOptions::default()
        };
        Pretrained::load(&beside(&self.name), &options, device).map_err(|source| TrainError::Task {
            what: "loading [model]",
            source: source.into(),
        })
    }
}

/// Trains a CLIP on the recipe's data and validates it as the recipe says. Writes the trained model into `model` in the
/// run's folder, and that of averaged weights, if there are any, into `model_ema`.
///
/// `texts` decides which texts of a sample the task sees.
///
/// # Errors
///
/// Those of [`run`], and when data or validation sets cannot be opened or the model not be written.
pub fn train_clip<B, T, C>(
    recipe: &Recipe,
    start: Pretrained<B>,
    task: &T,
    texts: C,
    resume: Resume,
    device: Device<B::InnerBackend>,
) -> Result<Outcome<Pretrained<B::InnerBackend>>>
where
    B: AutodiffBackend,
    T: Task<B, Model = Clip<B>, Batch = ImageTextBatch>,
    C: TextChoice,
{
    let data = recipe
        .section::<DataTable>("data")?
        .relative_to(&recipe.resolve(""));
    let validation = Validation::open(recipe)?;
    if let Some(best) = &recipe.checkpoint.best {
        validation.check_best(best)?;
    }
    let (source, sampler) = data.open(recipe.run.seed, 0, 1)?;
    let augment = Augment::new(data.augment.clone(), start.preprocess.config().size)
        .map_err(|error| TrainError::Config(format!("data.augment: {error}")))?;
    let pairs = Pairs {
        augment,
        tokenizer: start.tokenizer.clone(),
        texts,
    };
    let mut batches = pairs.batches(source, sampler, data.loader);

    let (preprocess, tokenizer, config) = (start.preprocess, start.tokenizer, start.config);
    let whole = |model: Clip<B::InnerBackend>| Pretrained {
        model,
        preprocess: preprocess.clone(),
        tokenizer: tokenizer.clone(),
        config: config.clone(),
    };
    let mut rate = |model: &Clip<B>| validation.rate(&whole(model.valid()), &device);
    let outcome = run(Run {
        task,
        model: start.model,
        recipe,
        batches: &mut batches,
        collective: &Single,
        validate: match validation.is_empty() {
            true => None,
            false => Some(&mut rate),
        },
        resume,
        device: device.clone(),
    })?;
    let outcome = outcome.map(|model| whole(model.valid()));
    let write = |model: &Pretrained<B::InnerBackend>, name: &str| {
        let written = model.write_into(&recipe.out().join(name));
        written.map_err(|source| TrainError::Task {
            what: "writing the trained model",
            source: BoxError::from(source),
        })
    };
    write(&outcome.model, "model")?;
    if let Some(ema) = &outcome.ema {
        write(ema, "model_ema")?;
    }
    Ok(outcome)
}
