//! Plain CLIP as a method: one text per image (Radford et al., 2021), or SigLIP's loss (Zhai et al., 2023).

use super::contrastive::{Contrastive, ContrastiveLoss, NO_BIAS};
use super::data_table::DataTable;
use super::model_table::{ModelTable, train_clip};
use crate::error::{Result, TrainError};
use crate::recipe::{Recipe, Section};
use crate::trainer::{Launch, Outcome};
use ::clip::Pretrained;
use ::clip::nn::PatchDropout;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use data::CaptionMix;
use serde::{Deserialize, Serialize};

/// The `[method]` table of `name = "clip"`: one caption per image, drawn as `[data.captions]` says.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Always `clip`.
    pub name: Name,
    /// softmax or sigmoid.
    #[serde(default)]
    pub loss: ContrastiveLoss,
    /// Share of patches that is left out of each training image.
    #[serde(default)]
    pub patch_dropout: f64,
}

/// The name of this method.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// Plain CLIP.
    Clip,
}

impl Section for Options {
    const NAME: &'static str = "method";
}

/// Trains as a recipe says: loads `[model]`, reads `[data]`, runs `[method]`, writes the trained model directory.
///
/// # Errors
///
/// Those of [`train_clip`], and when the tables of the recipe do not go together.
pub fn train<B: AutodiffBackend>(
    mut recipe: Recipe,
    launch: &Launch,
    device: Device<B::InnerBackend>,
) -> Result<Outcome<Pretrained<B::InnerBackend>>> {
    let options: Options = recipe.section()?;
    let captions = recipe.section::<DataTable>()?.captions;
    let captions: CaptionMix = captions.unwrap_or_default();
    let start = recipe
        .section::<ModelTable>()?
        .load::<B>(recipe.run.seed, &device)?;
    if options.loss == ContrastiveLoss::Sigmoid && start.model.logit_bias.is_none() {
        return Err(TrainError::Config(NO_BIAS.into()));
    }
    let mut task = Contrastive::new(&start);
    task.loss = options.loss;
    task.patch_dropout = patch_dropout(options.patch_dropout)?;
    train_clip(recipe, start, &task, captions, launch, device)
}

/// A share of patches to leave out as the towers want it; 0 is none.
///
/// # Errors
///
/// When nothing would be left, or the share is none.
pub fn patch_dropout(share: f64) -> Result<Option<PatchDropout>> {
    match share {
        0.0 => Ok(None),
        share if share > 0.0 && share < 1.0 => Ok(Some(PatchDropout { prob: share })),
        share => Err(TrainError::Config(format!(
            "method.patch_dropout = {share} must be at least 0 and below 1"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_patches_leaves_some() {
        assert!(patch_dropout(0.0).unwrap().is_none());
        assert_eq!(patch_dropout(0.5).unwrap().unwrap().prob, 0.5);
        for share in [1.5, 1.0, -0.1, f64::NAN] {
            let message = patch_dropout(share).unwrap_err().to_string();
            let field = format!("method.patch_dropout = {share}");
            assert!(message.contains(&field), "{message}");
        }
    }
}
