//! Vision towers: images → embeddings.

mod vit;

pub use vit::{VisionPool, Vit, VitConfig};

use burn::prelude::*;

/// The vision tower of a model, chosen at run time.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one per model
pub enum VisionTower<B: Backend> {
    /// A plain vision transformer.
    Vit(Vit<B>),
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
        }
    }

    /// The tower as a [`Vit`], where it is one.
    pub fn as_vit(&self) -> Option<&Vit<B>> {
        match self {
            Self::Vit(vit) => Some(vit),
        }
    }
}
