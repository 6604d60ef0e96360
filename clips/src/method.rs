//! CLIPS as a method of recipes.

use crate::captioner::{CaptionerConfig, CaptionerOptions};
use crate::model::{Clips, ClipsModel, widths};
use crate::reduce::Reduction;
use crate::task::ClipsTask;
use crate::texts::{Caption, ClipsPairs, Texts};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::Pretrained;
use clip::nn::init::Init;
use serde::{Deserialize, Serialize};
use train::image_text::clip::patch_dropout;
use train::{
    DataTable, Launch, ModelTable, Outcome, Recipe, Result, Section, TrainError, train_dual_encoder,
};

/// The `[method]` table of `name = "clips"`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Always `clips`.
    pub name: Name,
    /// The texts that are compared with the image: web, full, partial.
    #[serde(default = "web_and_partial")]
    pub texts: Vec<Caption>,
    /// How the partial caption comes about.
    #[serde(default)]
    pub reduction: Reduction,
    /// The captioner; absent: none is trained.
    pub captioner: Option<CaptionerOptions>,
    /// Weight of the contrastive loss.
    #[serde(default = "one")]
    pub contrastive_weight: f64,
    /// Weight of the captioner's loss.
    #[serde(default = "two")]
    pub caption_weight: f64,
    /// Share of patches that is left out of each training image.
    #[serde(default)]
    pub patch_dropout: f64,
}

fn web_and_partial() -> Vec<Caption> {
    vec![Caption::Web, Caption::Partial]
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

/// The name of this method.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// CLIPS.
    Clips,
}

impl Section for Options {
    const NAME: &'static str = "method";
}

impl Options {
    /// Refuses what does not go together.
    fn check(&self) -> Result<(), String> {
        let doubled = |(place, text): (usize, &Caption)| self.texts[..place].contains(text);
        if self.texts.is_empty() || self.texts.iter().enumerate().any(doubled) {
            return Err("method.texts: name web, full or partial, each at most once".into());
        }
        if self.captioner.is_some() && !self.texts.contains(&Caption::Web) {
            return Err(
                "[method.captioner] reads the web caption: add \"web\" to method.texts".into(),
            );
        }
        if self.reduction.budget == Some(0) {
            return Err("method.reduction.budget = 0 leaves no text; give at least 1".into());
        }
        for (field, weight) in [
            ("contrastive_weight", self.contrastive_weight),
            ("caption_weight", self.caption_weight),
        ] {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(format!(
                    "method.{field} = {weight} should be a number that is not negative"
                ));
            }
        }
        Ok(())
    }
}

/// Trains as a recipe says: loads `[model]` with its captioner, reads `[data]`, runs `[method]`, writes the trained model
/// directory.
///
/// # Errors
///
/// Those of [`train_dual_encoder`], and when the tables of the recipe do not go together.
pub fn train<B: AutodiffBackend>(
    mut recipe: Recipe,
    launch: &Launch,
    device: Device<B::InnerBackend>,
) -> Result<Outcome<Clips<B::InnerBackend>>> {
    let options: Options = recipe.section()?;
    options.check().map_err(TrainError::Config)?;
    if recipe.section::<DataTable>()?.captions.is_some() {
        let what =
            "CLIPS chooses its texts by method.texts; remove [data.captions] from the recipe";
        return Err(TrainError::Config(what.into()));
    }
    let table: ModelTable = recipe.section()?;
    let start: Pretrained<B> = table.load(recipe.run.seed, &device)?;
    let start = Clips::with_captioner_of(start, &table.name, &device).map_err(config_error)?;
    let Clips {
        encoders,
        captioner,
    } = with_captioner(start, options.captioner, recipe.run.seed, &device)?;
    let (captioner, config) = captioner.unzip();

    let mut task = ClipsTask::new(&encoders, config, options.texts.clone());
    task.contrastive_weight = options.contrastive_weight;
    task.caption_weight = options.caption_weight;
    task.patch_dropout = patch_dropout(options.patch_dropout)?;
    let texts = Texts {
        tokenizer: encoders.tokenizer.clone(),
        captions: options.texts,
        reduction: options.reduction,
        queries: config.map(|config| config.options.queries),
    };
    if texts.captions.contains(&Caption::Partial) {
        texts
            .tokenizer
            .frame(&[])
            .map_err(|error| TrainError::Config(error.to_string()))?;
    }
    let size = encoders.preprocess.config().size;
    let model = ClipsModel::new(encoders.model, captioner);
    let prepare = |augment| ClipsPairs { augment, texts };
    train_dual_encoder(recipe, model, size, &task, prepare, launch, device)
}

fn config_error(error: crate::Error) -> TrainError {
    TrainError::Task {
        what: "loading [model]",
        source: error.into(),
    }
}

/// The model with the captioner that the recipe asks for: its own one, or one with initial weights.
fn with_captioner<B: Backend>(
    start: Clips<B>,
    options: Option<CaptionerOptions>,
    seed: u64,
    device: &Device<B>,
) -> Result<Clips<B>> {
    let Clips {
        encoders,
        captioner,
    } = start;
    let captioner = match (captioner, options) {
        (None, None) => None,
        (Some((captioner, config)), Some(options)) if config.options == options => {
            Some((captioner, config))
        }
        (Some((_, config)), options) => {
            let of = |options: Option<CaptionerOptions>| {
                options.map_or("none".to_string(), |options| format!("{options:?}"))
            };
            return Err(TrainError::Config(format!(
                "the model directory has a captioner, {}, and [method.captioner] says {}; make them agree, or remove \
                 captioner.json from a copy of the directory to begin with a new one",
                of(Some(config.options)),
                of(options)
            )));
        }
        (None, Some(options)) => {
            let [image_width, text_width, vocab_size] = widths(&encoders).map_err(config_error)?;
            let config = CaptionerConfig {
                options,
                image_width,
                text_width,
                vocab_size,
            };
            config.check().map_err(TrainError::Config)?;
            // Another stream than that of the towers.
            let mut init = Init::seeded(seed ^ 0x6361_7074_696f_6e73);
            Some((config.init(&mut init, device), config))
        }
    };
    Ok(Clips {
        encoders,
        captioner,
    })
}
