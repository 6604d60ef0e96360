//! Vision towers: images → embeddings.

mod eva02;
mod resnet;
mod vit;

pub use eva02::{Eva02, Eva02Attention, Eva02Block, Eva02Config, Eva02Transformer, SwiGlu};
pub(crate) use resnet::REDUCTION;
pub use resnet::{Bottleneck, ResNet, ResNetConfig};
pub use vit::{VisionPool, Vit, VitConfig};

use crate::nn::init::Init;
use burn::prelude::*;

/// The vision tower of a model, chosen at run time.
///
/// Others match it in full, so that a new tower cannot lose block replay in training without a word.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one per model
pub enum VisionTower<B: Backend> {
    /// A plain vision transformer.
    Vit(Vit<B>),
    /// EVA-02's.
    Eva02(Eva02<B>),
    /// CLIP's ResNet.
    ResNet(ResNet<B>),
}

/// Architecture of a [`VisionTower`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum VisionTowerConfig {
    /// A plain vision transformer.
    Vit(VitConfig),
    /// EVA-02's.
    Eva02(Eva02Config),
    /// CLIP's ResNet.
    ResNet(ResNetConfig),
}

impl VisionTowerConfig {
    /// A tower with initial weights.
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> VisionTower<B> {
        match self {
            Self::Vit(config) => VisionTower::Vit(config.init(init, device)),
            Self::Eva02(config) => VisionTower::Eva02(config.init(init, device)),
            Self::ResNet(config) => VisionTower::ResNet(config.init(init, device)),
        }
    }
}

impl<B: Backend> VisionTower<B> {
    /// One embedding per image, not normalized.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`, normalized with the checkpoint's mean and std
    /// - output: `[batch, embed_dim]`, f32
    pub fn forward(&self, image: Tensor<B, 4>) -> Tensor<B, 2> {
        match self {
            Self::Vit(vit) => vit.forward(image),
            Self::Eva02(eva) => eva.forward(image),
            Self::ResNet(resnet) => resnet.forward(image),
        }
    }

    /// The output of the last block, before the final norm and before pooling.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - output: `[batch, prefix + patches, width]`; a ResNet has no prefix, and its width is that of the last stage
    pub fn tokens(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        match self {
            Self::Vit(vit) => vit.tokens(image),
            Self::Eva02(eva) => eva.tokens(image),
            Self::ResNet(resnet) => resnet.tokens(image),
        }
    }

    /// From the output of the last block to the embedding, not normalized.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, prefix + patches, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn head(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        match self {
            Self::Vit(vit) => vit.head(x),
            Self::Eva02(eva) => eva.head(x),
            Self::ResNet(resnet) => resnet.head(x),
        }
    }

    /// The patch tokens after the last block, without the final norm: what a decoder reads.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, prefix + patches, width]`
    /// - output: `[batch, patches, width]`
    pub fn raw_patch_tokens(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            Self::Vit(vit) => vit.raw_patch_tokens(x),
            Self::Eva02(eva) => eva.raw_patch_tokens(x),
            Self::ResNet(_) => x,
        }
    }

    /// The tower with its positions out of training.
    pub(crate) fn with_fixed_positions(self) -> Self {
        match self {
            Self::Vit(mut vit) => {
                vit.positional_embedding = vit.positional_embedding.set_require_grad(false);
                Self::Vit(vit)
            }
            Self::Eva02(mut eva) => {
                eva.positional_embedding = eva.positional_embedding.set_require_grad(false);
                Self::Eva02(eva)
            }
            Self::ResNet(_) => self, // none has a fixed table
        }
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.patches(),
            Self::Eva02(eva) => eva.patches(),
            Self::ResNet(resnet) => resnet.patches(),
        }
    }

    /// The tower as a [`Vit`], where it is one.
    pub fn as_vit(&self) -> Option<&Vit<B>> {
        match self {
            Self::Vit(vit) => Some(vit),
            Self::Eva02(_) | Self::ResNet(_) => None,
        }
    }

    /// The tower as an [`Eva02`], where it is one.
    pub fn as_eva02(&self) -> Option<&Eva02<B>> {
        match self {
            Self::Vit(_) | Self::ResNet(_) => None,
            Self::Eva02(eva) => Some(eva),
        }
    }

    /// The tower as a [`ResNet`], where it is one.
    pub fn as_resnet(&self) -> Option<&ResNet<B>> {
        match self {
            Self::Vit(_) | Self::Eva02(_) => None,
            Self::ResNet(resnet) => Some(resnet),
        }
    }
}
