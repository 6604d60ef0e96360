//! What is trained in stage 2: a vision tower, the adapter of text vectors, and the scale of their products.

use crate::adapter::{Adapter, AdapterConfig};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;
use clip::nn::init::Init;
use clip::preprocess::PreprocessConfig;
use clip::{ModelConfig, VisionTower};

/// Vision tower and text adapter around one space.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    /// Images → embeddings.
    pub visual: VisionTower<B>,
    /// Vectors of texts → embeddings.
    pub text: Adapter<B>,
    /// Logarithm of the factor on cosines.
    pub logit_scale: Param<Tensor<B, 1>>,
}

/// Architecture of a [`Network`].
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    /// The vision tower, in open_clip's schema; what it says of a text tower has no meaning.
    pub vision: ModelConfig,
    /// How images are prepared.
    pub preprocess: PreprocessConfig,
    /// The text adapter.
    pub adapter: AdapterConfig,
}

impl NetworkConfig {
    /// A skeleton or random weights, computing in f32.
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Network<B> {
        Network {
            visual: self.vision.vision(DType::F32).init(init, device),
            text: self.adapter.init(init, device),
            logit_scale: init.constant([1], (1f32 / 0.07).ln(), device),
        }
    }
}

impl<B: Backend> Network<B> {
    /// The factor on cosines.
    ///
    /// # Shapes
    ///
    /// - output: `[1]`
    pub fn scale(&self) -> Tensor<B, 1> {
        self.logit_scale.val().exp()
    }
}
