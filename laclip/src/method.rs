//! LaCLIP as a method of recipes.

use crate::multi_text::{MultiText, multi_text};
use crate::texts::{AllTexts, OneText};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::{Clip, Pretrained};
use serde::{Deserialize, Serialize};
use train::image_text::clip::patch_dropout;
use train::{
    Contrastive, DataTable, Launch, ModelTable, Outcome, Recipe, Result, Section, TrainError,
    train_clip,
};

/// The `[method]` table of `name = "laclip"`: the original caption or one of its rewrites, all alike.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Always `laclip`.
    pub name: Name,
    /// Rewrites per image; 0 is plain CLIP.
    pub rewrites: usize,
    /// per-slot, all-texts or all-texts-and-own: all texts at every visit (LaCLIP-MT). Absent: one text per visit.
    pub multi_text: Option<MultiText>,
    /// Share of patches that is left out of each training image.
    #[serde(default)]
    pub patch_dropout: f64,
}

/// The name of this method.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// LaCLIP.
    Laclip,
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
    let Options {
        rewrites,
        multi_text: form,
        patch_dropout: share,
        ..
    } = recipe.section()?;
    if recipe.section::<DataTable>()?.captions.is_some() {
        let what =
            "LaCLIP draws its texts by method.rewrites; remove [data.captions] from the recipe";
        return Err(TrainError::Config(what.into()));
    }
    let start: Pretrained<B> = recipe
        .section::<ModelTable>()?
        .load(recipe.run.seed, &device)?;
    let mut task = Contrastive::new(&start);
    task.patch_dropout = patch_dropout(share)?;
    match form {
        None => train_clip(recipe, start, &task, OneText { rewrites }, launch, device),
        Some(form) => {
            let mut task = task.with_loss(move |model: &Clip<B>, mut embeddings| {
                let rows = embeddings.rows();
                let (image, texts) = (embeddings.one("image")?, embeddings.all("text"));
                Ok(multi_text(rows, image, texts, model.scale(), form).into())
            });
            task.by_rows = true;
            train_clip(recipe, start, &task, AllTexts { rewrites }, launch, device)
        }
    }
}
