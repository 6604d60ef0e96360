//! The one door: whatever kind of model the files hold, it is loaded here and comes out as a [`DualEncoder`].

use anyhow::{Result, bail};
use burn::prelude::*;
use burn::tensor::activation::softmax;
use clip::preprocess::Preprocess;
use clip::{LoadOptions, Pretrained};
use clips::Clips;
use eval::{DualEncoder, EvalError, TextEncoder};
use llm2clip::{Llm2Clip, Llm2ClipOptions, is_llm2clip};
use std::path::Path;

/// A model of any kind that puts images and texts into one space.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // one per program
pub enum Model<B: Backend> {
    /// CLIP and its kin: two towers.
    Clip(Pretrained<B>),
    /// A vision tower and a language model with an adapter.
    Llm2Clip(Llm2Clip<B>),
    /// Two towers and a captioner.
    Clips(Clips<B>),
}

impl<B: Backend> Model<B> {
    /// Loads a model directory, a checkpoint file, a preset (random weights) or `hf-hub:ORG/NAME`.
    ///
    /// # Errors
    ///
    /// Says what `model` was taken for, and what is missing or does not fit.
    pub fn load(model: &str, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        Self::load_with_llm(model, options, None, device)
    }

    /// [`Model::load`] with the directory of LLM2CLIP's language model, in place of the one that the model names.
    ///
    /// # Errors
    ///
    /// As there; and for a language model beside a model that needs none.
    pub fn load_with_llm(
        model: &str,
        options: &LoadOptions,
        llm: Option<&Path>,
        device: &Device<B>,
    ) -> Result<Self> {
        if is_llm2clip(model) {
            let options = Llm2ClipOptions {
                clip: options.clone(),
                llm: llm.map(Into::into),
                ..Llm2ClipOptions::default()
            };
            return Ok(Self::Llm2Clip(Llm2Clip::load(model, &options, device)?));
        }
        if let Some(llm) = llm {
            bail!(
                "--llm {}: `{model}` is no LLM2CLIP model, its texts need no language model",
                llm.display()
            );
        }
        let clips = Clips::load(model, options, device)?;
        Ok(match clips.captioner {
            None => Self::Clip(clips.encoders),
            Some(_) => Self::Clips(clips),
        })
    }

    /// The model as one that writes captions.
    ///
    /// # Errors
    ///
    /// If it has no captioner.
    pub fn captioner(&self) -> clips::Result<&Clips<B>> {
        match self {
            Self::Clips(clips) => Ok(clips),
            Self::Clip(_) | Self::Llm2Clip(_) => Err(clips::Error::NoCaptioner),
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
        match self {
            Self::Clip(clip) => clip.model.probabilities(image, text),
            Self::Clips(clips) => clips.encoders.model.probabilities(image, text),
            Self::Llm2Clip(model) => {
                softmax(clip::loss::logits(image, text, model.network.scale()), 1)
            }
        }
    }

    fn encoder(&self) -> &dyn DualEncoder<B> {
        match self {
            Self::Clip(clip) => clip,
            Self::Clips(clips) => &clips.encoders,
            Self::Llm2Clip(model) => model,
        }
    }
}

impl<B: Backend> TextEncoder<B> for Model<B> {
    fn embed_dim(&self) -> usize {
        self.encoder().embed_dim()
    }

    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<B, 2>, EvalError> {
        self.encoder().text_embeddings(texts)
    }

    fn identity(&self) -> Result<Option<String>, EvalError> {
        self.encoder().identity()
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        self.encoder().truncated(texts)
    }
}

impl<B: Backend> DualEncoder<B> for Model<B> {
    fn preprocess(&self) -> &Preprocess {
        self.encoder().preprocess()
    }

    fn image_embeddings(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.encoder().image_embeddings(images)
    }

    fn scale(&self) -> Option<f32> {
        self.encoder().scale()
    }
}
