//! The one door: whatever kind of model the files hold, it is loaded here and comes out as a [`DualEncoder`].

use burn::prelude::*;
use clip::preprocess::Preprocess;
use clip::{LoadOptions, ModelConfig, Pretrained};
use clips::Clips;
use eval::{DualEncoder, EvalError};

/// A model of any kind that puts images and texts into one space.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // one per program
pub enum Model<B: Backend> {
    /// CLIP and its kin: two towers.
    Clip(Pretrained<B>),
    /// Two towers and a captioner.
    Clips(Clips<B>),
}

/// Where the weights of a model come from.
pub fn is_random(model: &str) -> bool {
    ModelConfig::preset_names().any(|name| name == model)
}

impl<B: Backend> Model<B> {
    /// Loads a model directory, a checkpoint file, a preset (random weights) or `hf-hub:ORG/NAME`.
    ///
    /// # Errors
    ///
    /// Says what `model` was taken for, and what is missing or does not fit.
    pub fn load(model: &str, options: &LoadOptions, device: &Device<B>) -> clips::Result<Self> {
        let clips = Clips::load(model, options, device)?;
        Ok(match clips.captioner {
            None => Self::Clip(clips.encoders),
            Some(_) => Self::Clips(clips),
        })
    }

    /// The model as one that writes captions, if it has a captioner.
    pub fn captioner(&self) -> Option<&Clips<B>> {
        match self {
            Self::Clips(clips) => Some(clips),
            Self::Clip(_) => None,
        }
    }

    /// The two towers with preprocessing and tokenizer.
    fn encoders(&self) -> &Pretrained<B> {
        match self {
            Self::Clip(clip) => clip,
            Self::Clips(clips) => &clips.encoders,
        }
    }

    /// How well each text fits each image: the share among the texts where the model was trained to tell texts apart
    /// (CLIP), a probability for each pair where it was trained pair by pair (SigLIP).
    ///
    /// # Shapes
    ///
    /// - image: `[n, embed_dim]`, text: `[m, embed_dim]`, unit rows
    /// - output: `[n, m]`
    pub fn probabilities(&self, image: Tensor<B, 2>, text: Tensor<B, 2>) -> Tensor<B, 2> {
        self.encoders().model.probabilities(image, text)
    }
}

impl<B: Backend> DualEncoder<B> for Model<B> {
    fn embed_dim(&self) -> usize {
        DualEncoder::<B>::embed_dim(self.encoders())
    }

    fn preprocess(&self) -> &Preprocess {
        &self.encoders().preprocess
    }

    fn image_embeddings(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.encoders().image_embeddings(images)
    }

    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<B, 2>, EvalError> {
        self.encoders().text_embeddings(texts)
    }

    fn scale(&self) -> Option<f32> {
        DualEncoder::<B>::scale(self.encoders())
    }

    fn identity(&self) -> Result<Option<String>, EvalError> {
        DualEncoder::<B>::identity(self.encoders())
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        DualEncoder::<B>::truncated(self.encoders(), texts)
    }
}
