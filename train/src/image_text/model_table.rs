//! The `[model]` table, and training of a CLIP on images with their texts: what every such method has in common.

use super::contrastive::ImageTextBatch;
use super::data_table::DataTable;
use super::pairs::{Pairs, TextChoice};
use super::validation::Validation;
use crate::error::{Result, TrainError};
use crate::feed::{Prepare, prepared};
use crate::recipe::{Recipe, Section};
use crate::trainer::task::Task;
use crate::trainer::{Launch, Outcome, Run, run};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::preprocess::Augment;
use clip::{Clip, LoadOptions, ModelConfig, Precision, Pretrained};
use eval::DualEncoder;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The `[model]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// Model directory, checkpoint file, preset name (random weights) or hf-hub:ORG/NAME.
    pub name: String,
    /// Config of a bare checkpoint file: a JSON file or the name of a preset.
    pub config: Option<String>,
    /// A tokenizer in place of the model's own: a file or a folder with one. Architectures without weights whose tokenizer
    /// is not CLIP's need it.
    pub tokenizer: Option<PathBuf>,
    /// Side of the images in pixels, if not the model's own; position embeddings are resized.
    pub image_size: Option<usize>,
    /// Length of a text in tokens, if not the model's own; position embeddings are resized.
    pub context_length: Option<usize>,
    /// Value of `logit_scale` to start with, the logarithm of the factor, if not the model's own.
    pub init_logit_scale: Option<f32>,
    /// Value of `logit_bias` to start with, if not the model's own; a model without one gets it.
    pub init_logit_bias: Option<f32>,
    /// f32 or bf16.
    #[serde(default = "f32")]
    precision: String,
}

fn f32() -> String {
    Precision::F32.to_string()
}

impl Section for ModelTable {
    const NAME: &'static str = "model";

    /// Paths that exist beside the recipe are taken from there, but for the name of a preset: write `./NAME` for a folder
    /// that is called like one.
    fn resolve(&mut self, folder: &Path) {
        let preset = |name: &str| ModelConfig::preset_names().any(|preset| preset == name);
        for name in [Some(&mut self.name), self.config.as_mut()]
            .into_iter()
            .flatten()
        {
            let beside = folder.join(&*name);
            if !preset(name) && beside.exists() {
                *name = beside.display().to_string();
            }
        }
        if let Some(tokenizer) = &mut self.tokenizer {
            *tokenizer = folder.join(&*tokenizer);
        }
    }
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

    /// What the table says beside the name, for loaders of other kinds of models.
    ///
    /// # Errors
    ///
    /// When the table names no known precision.
    pub fn options(&self, seed: u64) -> Result<LoadOptions> {
        Ok(LoadOptions {
            config: self.config.clone(),
            precision: self.precision()?,
            seed,
            image_size: self.image_size.map(|side| [side, side]),
            context_length: self.context_length,
            tokenizer: self.tokenizer.clone(),
        })
    }

    /// Loads the model, or makes one with random weights.
    ///
    /// # Errors
    ///
    /// Those of [`Pretrained::load`].
    pub fn load<B: Backend>(&self, seed: u64, device: &Device<B>) -> Result<Pretrained<B>> {
        let options = self.options(seed)?;
        let loaded = Pretrained::load(&self.name, &options, device);
        let mut loaded = loaded.map_err(|source| TrainError::Task {
            what: "loading [model]",
            source: source.into(),
        })?;
        if let Some(scale) = self.init_logit_scale {
            loaded.model.logit_scale = Param::from_data([scale], device);
        }
        if let Some(bias) = self.init_logit_bias {
            loaded.model.logit_bias = Some(Param::from_data([bias], device));
            loaded.config.init_logit_bias = Some(bias.into());
        }
        Ok(loaded)
    }
}

/// Trains a CLIP on the recipe's `[data]` and validates it as `[validation]` says.
///
/// `texts` decides which texts of a sample the task sees.
///
/// # Errors
///
/// Those of [`train_dual_encoder`].
pub fn train_clip<B, T, C>(
    recipe: Recipe,
    start: Pretrained<B>,
    task: &T,
    texts: C,
    launch: &Launch,
    device: Device<B::InnerBackend>,
) -> Result<Outcome<Pretrained<B::InnerBackend>>>
where
    B: AutodiffBackend,
    T: Task<B, Model = Clip<B>, Batch = ImageTextBatch, Trained = Pretrained<B::InnerBackend>>,
    C: TextChoice,
{
    let size = start.preprocess.config().size;
    let tokenizer = start.tokenizer;
    let prepare = |augment| Pairs {
        augment,
        tokenizer,
        texts,
    };
    train_dual_encoder(recipe, start.model, size, task, prepare, launch, device)
}

/// Trains any model of images and texts on the recipe's `[data]` and validates it as `[validation]` says: what the methods
/// of this library have in common.
///
/// `size` is the height and width of the model's images; `prepare` makes batches, with the augmentation of `[data.augment]`.
///
/// # Errors
///
/// Those of [`run()`], when data or validation sets cannot be opened, and what [`Prepare::check`] finds.
pub fn train_dual_encoder<B, T, P>(
    mut recipe: Recipe,
    model: T::Model,
    size: [usize; 2],
    task: &T,
    prepare: impl FnOnce(Augment) -> P,
    launch: &Launch,
    device: Device<B::InnerBackend>,
) -> Result<Outcome<T::Trained>>
where
    B: AutodiffBackend,
    T: Task<B>,
    T::Trained: DualEncoder<B::InnerBackend>,
    P: Prepare<Batch = T::Batch>,
{
    let data: DataTable = recipe.section()?;
    let validation = Validation::open(&mut recipe)?.among(launch.world.clone());
    if let Some(best) = &recipe.checkpoint.best {
        validation.check_best(best)?;
    }
    let (source, sampler) = data.open(recipe.run.seed, launch.world.rank(), launch.world.size())?;
    let augment = Augment::new(data.augment.clone(), size)
        .map_err(|error| TrainError::Config(format!("data.augment: {error}")))?;
    let prepare = prepare(augment);
    prepare.check(&*source).map_err(TrainError::Config)?;
    let mut rate = |model: &T::Trained| validation.rate(model, &device);
    run(Run {
        task,
        model,
        recipe: &recipe,
        batches: &mut prepared(prepare, source, sampler, data.loader, recipe.run.accumulate),
        collective: launch.collective(),
        validate: match validation.is_empty() {
            true => None,
            false => Some(&mut rate),
        },
        launch,
        device: device.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_beside_the_recipe_is_taken_unless_a_preset_is_called_so() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tiny", "mine"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let resolved = |name: &str| {
            let mut table: ModelTable = toml::from_str(&format!("name = {name:?}")).unwrap();
            table.resolve(folder.path());
            table.name
        };
        assert_eq!(resolved("tiny"), "tiny");
        assert_eq!(Path::new(&resolved("./tiny")), folder.path().join("./tiny"));
        assert_eq!(Path::new(&resolved("mine")), folder.path().join("mine"));
        assert_eq!(resolved("gone"), "gone");
    }
}
