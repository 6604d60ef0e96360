//! The `[method]` table of a recipe, and training by it.

use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::Pretrained;
use clip::nn::PatchDropout;
use data::CaptionMix;
use laclip::texts::{AllTexts, OneText};
use laclip::{MultiText, MultiTextTask};
use serde::Deserialize;
use train::contrastive::ContrastiveLoss;
use train::{
    Contrastive, DataTable, ModelTable, Outcome, Recipe, Result, Resume, TrainError, train_clip,
};

/// The `[method]` table, by `name`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Method {
    /// Plain CLIP: one caption per image, drawn as `[data.captions]` says.
    Clip {
        /// softmax or sigmoid.
        #[serde(default)]
        loss: ContrastiveLoss,
        /// Share of patches that is left out of each training image.
        #[serde(default)]
        patch_dropout: f64,
    },
    /// LaCLIP: the original caption or one of its rewrites, all alike.
    Laclip {
        /// Rewrites per image; 0 is plain CLIP.
        rewrites: usize,
        /// per-slot, all-texts or all-texts-and-own: all texts at every visit (LaCLIP-MT). Absent: one text per visit.
        multi_text: Option<MultiText>,
        /// Share of patches that is left out of each training image.
        #[serde(default)]
        patch_dropout: f64,
    },
}

/// Trains as a recipe says: loads `[model]`, reads `[data]`, runs `[method]`, writes the trained model directory into
/// `model` in the run's folder.
///
/// # Errors
///
/// Those of [`train_clip`], and when the tables of the recipe do not go together.
pub fn train<B: AutodiffBackend>(
    recipe: &Recipe,
    resume: Resume,
    device: Device<B::InnerBackend>,
) -> Result<Outcome<Pretrained<B::InnerBackend>>> {
    let method: Method = recipe.section("method")?;
    let captions = recipe.section::<DataTable>("data")?.captions;
    let start: Pretrained<B> = recipe
        .section::<ModelTable>("model")?
        .load(recipe, &device)?;
    let mut task = Contrastive::new(&start);
    match method {
        Method::Clip {
            loss,
            patch_dropout,
        } => {
            if loss == ContrastiveLoss::Sigmoid && start.model.logit_bias.is_none() {
                let what = "the sigmoid loss needs a model whose configuration has init_logit_bias";
                return Err(TrainError::Config(what.into()));
            }
            task.loss = loss;
            task.patch_dropout = dropout(patch_dropout);
            let captions: CaptionMix = captions.unwrap_or_default();
            train_clip(recipe, start, &task, captions, resume, device)
        }
        Method::Laclip {
            rewrites,
            multi_text,
            patch_dropout,
        } => {
            if captions.is_some() {
                let what = "LaCLIP draws its texts by method.rewrites; remove [data.captions] from the recipe";
                return Err(TrainError::Config(what.into()));
            }
            task.patch_dropout = dropout(patch_dropout);
            match multi_text {
                None => train_clip(recipe, start, &task, OneText { rewrites }, resume, device),
                Some(form) => {
                    let task = MultiTextTask { base: task, form };
                    train_clip(recipe, start, &task, AllTexts { rewrites }, resume, device)
                }
            }
        }
    }
}

fn dropout(prob: f64) -> Option<PatchDropout> {
    (prob > 0.0).then_some(PatchDropout { prob })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use train::validation::ValidationTable;

    #[test]
    fn every_table_of_the_recipes_in_this_repository_is_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut read = 0;
        for folder in ["recipes", "laclip/recipes"] {
            for entry in root.join(folder).read_dir().unwrap() {
                let path = entry.unwrap().path();
                let understood = || -> Result<()> {
                    let recipe = Recipe::load(&path, &[])?;
                    recipe.section::<Method>("method")?;
                    recipe.section::<DataTable>("data")?;
                    recipe.section::<ValidationTable>("validation")?;
                    let model: ModelTable = recipe.section("model")?;
                    model.precision()?;
                    assert!(clip::ModelConfig::preset(&model.name).is_ok(), "{path:?}");
                    Ok(())
                };
                understood().unwrap_or_else(|error| panic!("{error}"));
                read += 1;
            }
        }
        assert!(read >= 4, "{read} recipes");
    }
}
