//! A vision tower alone: what another text tower is put beside.

use super::position::{self, Positions};
use super::source::{Source, Weights, fitted};
use super::{HostTensor, LoadOptions, StateDict, apply};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::nn::init::Init;
use crate::preprocess::Preprocess;
use crate::vision::{VisionTower, VisionTowerConfig};
use burn::prelude::*;
use std::path::Path;

/// A vision tower with all that is needed to use it.
#[derive(Debug, Clone)]
pub struct PretrainedVision<B: Backend> {
    /// The tower.
    pub tower: VisionTower<B>,
    /// How images must be prepared.
    pub preprocess: Preprocess,
    /// Architecture of the model that the tower was part of; `embed_dim` is the tower's own.
    pub config: ModelConfig,
    /// Logarithm of the factor on the logits that the tower was trained with, where the checkpoint has it.
    pub logit_scale: Option<f32>,
}

/// What may be said when a vision tower is loaded.
#[derive(Debug, Clone, Default)]
pub struct VisionOptions {
    /// As for a whole model; tokenizer and context length are not looked at.
    pub model: LoadOptions,
    /// A new projection to this dimension in place of the checkpoint's, with random weights drawn from the seed as the
    /// tower's family does: EVA-02's near zero, others normal with deviation `width^-½` (a ResNet's bias uniform within it).
    pub head: Option<usize>,
}

/// The projection of each family, at most one of them in a tower.
const HEADS: [&str; 5] = [
    "proj",
    "head.weight",
    "head.bias",
    RESNET_HEAD[0],
    RESNET_HEAD[1],
];

const RESNET_HEAD: [&str; 2] = ["attnpool.c_proj.weight", "attnpool.c_proj.bias"];

impl<B: Backend> VisionTower<B> {
    /// Loads the vision tower of anything that [`crate::Pretrained::load`] takes, and of checkpoints whose text side is
    /// something else: LLM2CLIP's. Tensors outside the tower are passed over, those of the tower must fit it.
    ///
    /// # Errors
    ///
    /// As [`crate::Pretrained::load`]; refuses a new head for a tower that has none (SigLIP's).
    pub fn load(
        model: &str,
        options: &VisionOptions,
        device: &Device<B>,
    ) -> Result<PretrainedVision<B>> {
        let Source {
            mut config,
            preprocess,
            weights,
        } = Source::find(model, &options.model)?;
        let logit_scale = weights
            .as_ref()
            .and_then(|weights| weights.dict.get("logit_scale")?.values().first().copied());
        let compute = options.model.precision.compute();
        let tower = match weights {
            None => {
                config.embed_dim = options.head.unwrap_or(config.embed_dim);
                check_head(&config, options.head, Path::new(model))?;
                let mut init = Init::seeded(options.model.seed);
                config.vision(compute).init(&mut init, device)
            }
            Some(mut weights) => {
                let positions = position::fit(&mut weights.dict, &config, weights.scheme);
                let Weights { dict, file, .. } = weights;
                let mut dict = dict.rename(|name| name.strip_prefix("visual.").map(Into::into));
                // The text side of the configuration may be another one, and with it the shared space.
                config.embed_dim = options
                    .head
                    .or(embed_dim(&dict))
                    .unwrap_or(config.embed_dim);
                check_head(&config, options.head, &file)?;
                if options.head.is_some() {
                    new_head::<B>(&mut dict, &config, options, device);
                }
                let skeleton = config.vision(compute).init(&mut Init::Zeros, device);
                let tower = apply(skeleton, dict, &file, device)?;
                match positions {
                    Positions::Fixed => tower.with_fixed_positions(),
                    Positions::Learned => tower,
                }
            }
        };
        Ok(PretrainedVision {
            tower,
            preprocess: Preprocess::new(fitted(preprocess, &config)),
            config,
            logit_scale,
        })
    }
}

/// Outputs of the projection of a checkpoint.
fn embed_dim(dict: &StateDict) -> Option<usize> {
    let of = |name: &str, axis: usize| dict.get(name)?.shape().get(axis).copied();
    of("proj", 1)
        .or(of("head.weight", 0))
        .or(of(RESNET_HEAD[0], 0))
}

fn check_head(config: &ModelConfig, head: Option<usize>, path: &Path) -> Result<()> {
    match (config.vision(burn::tensor::DType::F32), head) {
        (VisionTowerConfig::Vit(vit), Some(head)) if !vit.projection => {
            let width = vit.transformer.block.width;
            if head == width {
                return Ok(());
            }
            Err(Error::format(
                path,
                format!(
                    "a tower of SigLIP has no projection: its embeddings have {width} dimensions, not {head}"
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// Puts random weights in the place of the checkpoint's projection. They are those of a random tower of one block, so
/// that they come from the family's own initialisation.
fn new_head<B: Backend>(
    dict: &mut StateDict,
    config: &ModelConfig,
    options: &VisionOptions,
    device: &Device<B>,
) {
    for name in HEADS {
        dict.remove(name);
    }
    let mut init = Init::seeded(options.model.seed);
    let (names, matrix, bias) = match config.vision(burn::tensor::DType::F32) {
        VisionTowerConfig::Vit(vit) if !vit.projection => return,
        VisionTowerConfig::Vit(vit) => {
            let matrix = vit.new_projection::<B>(&mut init, device);
            (["proj", ""], matrix, None)
        }
        VisionTowerConfig::Eva02(eva) => {
            let head = eva.new_head::<B>(&mut init, device);
            (["head.weight", "head.bias"], head.weight, head.bias)
        }
        VisionTowerConfig::ResNet(resnet) => {
            let head = resnet.new_head::<B>(&mut init, device);
            (RESNET_HEAD, head.weight, head.bias)
        }
    };
    let matrix = matrix.val();
    let dims = matrix.dims();
    dict.insert(names[0], HostTensor::from_values(host(matrix), dims));
    if let Some(bias) = bias {
        let bias = bias.val();
        let dims = bias.dims();
        dict.insert(names[1], HostTensor::from_values(host(bias), dims));
    }
}

fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.into_vec().expect("converted to f32")
}
