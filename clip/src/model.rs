//! The dual encoder.

use crate::config::ModelConfig;
use crate::loss::logits;
use crate::nn::init::Init;
use crate::nn::l2_normalize;
use crate::precision::Precision;
use crate::text::TextTower;
use crate::vision::VisionTower;
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::{sigmoid, softmax};

/// Two towers that embed images and texts into one space (Radford et al., 2021).
#[derive(Module, Debug)]
pub struct Clip<B: Backend> {
    /// Images → embeddings.
    pub visual: VisionTower<B>,
    /// Texts → embeddings.
    pub text: TextTower<B>,
    /// Logarithm of the factor on the logits, `[1]`.
    pub logit_scale: Param<Tensor<B, 1>>,
    /// Added to the logits of the sigmoid loss, `[1]`.
    pub logit_bias: Option<Param<Tensor<B, 1>>>,
}

/// Embeddings of a batch of pairs and what the losses need besides them.
#[derive(Debug, Clone)]
pub struct ClipOutput<B: Backend> {
    /// `[batch, embed_dim]`, unit rows, f32.
    pub image_features: Tensor<B, 2>,
    /// `[batch, embed_dim]`, unit rows, f32.
    pub text_features: Tensor<B, 2>,
    /// The factor itself, `[1]`.
    pub logit_scale: Tensor<B, 1>,
    /// `[1]`.
    pub logit_bias: Option<Tensor<B, 1>>,
}

impl ModelConfig {
    /// A model with initial weights that are a function of the seed alone.
    pub fn init<B: Backend>(&self, seed: u64, precision: Precision, device: &Device<B>) -> Clip<B> {
        self.build(Init::seeded(seed), precision, device)
    }

    pub(crate) fn build<B: Backend>(
        &self,
        mut init: Init,
        precision: Precision,
        device: &Device<B>,
    ) -> Clip<B> {
        let compute = precision.compute();
        let scalar = |value: f64| init_scalar(value as f32, device);
        let logit_scale = scalar(self.init_logit_scale);
        let logit_bias = self.init_logit_bias.map(scalar);
        let text = self.text(compute).init(&mut init, device);
        let visual = self.vision(compute).init(&mut init, device);
        Clip {
            visual,
            text: TextTower::Transformer(text),
            logit_scale,
            logit_bias,
        }
    }
}

fn init_scalar<B: Backend>(value: f32, device: &Device<B>) -> Param<Tensor<B, 1>> {
    Param::from_tensor(Tensor::from_data([value], device))
}

impl<B: Backend> Clip<B> {
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`, normalized with the checkpoint's mean and std
    /// - output: `[batch, embed_dim]`, not normalized, f32
    pub fn encode_image(&self, image: Tensor<B, 4>) -> Tensor<B, 2> {
        self.visual.forward(image)
    }

    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, embed_dim]`, not normalized, f32
    pub fn encode_text(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        self.text.forward(ids)
    }

    /// Both towers on a batch of pairs.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`
    /// - ids: `[batch, seq]`
    pub fn forward(&self, image: Tensor<B, 4>, ids: Tensor<B, 2, Int>) -> ClipOutput<B> {
        ClipOutput {
            image_features: l2_normalize(self.encode_image(image)),
            text_features: l2_normalize(self.encode_text(ids)),
            logit_scale: self.scale(),
            logit_bias: self
                .logit_bias
                .as_ref()
                .map(|bias| bias.val().cast(DType::F32)),
        }
    }

    /// How well each text fits each image: with a bias (SigLIP) every pair on its own, else the texts share one.
    ///
    /// # Shapes
    ///
    /// - image: `[n, embed_dim]`, text: `[m, embed_dim]`, unit rows
    /// - output: `[n, m]`, f32
    pub fn probabilities(&self, image: Tensor<B, 2>, text: Tensor<B, 2>) -> Tensor<B, 2> {
        let logits = logits(image, text, self.scale());
        match &self.logit_bias {
            Some(bias) => sigmoid(logits + bias.val().cast(DType::F32).unsqueeze()),
            None => softmax(logits, 1),
        }
    }

    /// The factor on the logits, `[1]`, f32.
    pub fn scale(&self) -> Tensor<B, 1> {
        self.logit_scale.val().cast(DType::F32).exp()
    }
}

#[cfg(test)]
mod tests;
