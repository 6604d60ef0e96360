//! Plain CLIP: one text per image (Radford et al., 2021), or SigLIP's loss over the same batch.

use crate::error::BoxError;
use crate::task::{Embedded, Losses, Pass, Task};
use crate::towers::{embed_images, embed_texts};
use burn::module::AutodiffModule;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::nn::PatchDropout;
use clip::preprocess::{PixelBatch, Preprocess};
use clip::tokenizer::{TokenBatch, Tokenizer};
use clip::{Clip, ModelConfig, Pretrained, loss};
use std::path::Path;

/// Images with the same number of texts for each.
#[derive(Clone, Debug)]
pub struct ImageTextBatch {
    /// Preprocessed images.
    pub pixels: PixelBatch,
    /// The first texts of all images in their order, then the second ones, and so on.
    pub texts: Vec<TokenBatch>,
}

/// Which pairs a text is told apart from, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContrastiveLoss {
    /// Symmetric cross-entropy over the batch.
    #[default]
    Softmax,
    /// Every pair is a yes-or-no question; the model needs a `logit_bias`.
    Sigmoid,
}

/// Plain contrastive training of a [`Clip`].
#[derive(Clone, Debug)]
pub struct Contrastive {
    /// The loss.
    pub loss: ContrastiveLoss,
    /// Leaves out patches of the training images.
    pub patch_dropout: Option<PatchDropout>,
    preprocess: Preprocess,
    tokenizer: Tokenizer,
    config: ModelConfig,
}

impl Contrastive {
    /// The task for a model of this kind.
    pub fn new<B: Backend>(of: &Pretrained<B>) -> Self {
        Self {
            loss: ContrastiveLoss::default(),
            patch_dropout: None,
            preprocess: of.preprocess.clone(),
            tokenizer: of.tokenizer.clone(),
            config: of.config.clone(),
        }
    }

    /// The model as a whole, with its preprocessing and tokenizer.
    pub fn pretrained<B: Backend>(&self, model: Clip<B>) -> Pretrained<B> {
        Pretrained {
            model,
            preprocess: self.preprocess.clone(),
            tokenizer: self.tokenizer.clone(),
            config: self.config.clone(),
        }
    }
}

impl<B: AutodiffBackend> Task<B> for Contrastive {
    type Model = Clip<B>;
    type Batch = ImageTextBatch;

    fn embed(&self, model: &Clip<B>, batch: &ImageTextBatch, pass: &mut Pass<B>) -> Embedded<B> {
        let images = batch
            .pixels
            .clone()
            .to_tensor(self.preprocess.config(), pass.device());
        let mut embeddings = vec![embed_images(
            &model.visual,
            images,
            self.patch_dropout,
            pass,
        )];
        for texts in &batch.texts {
            let ids = texts.clone().to_tensor(pass.device());
            embeddings.push(embed_texts(&model.text, ids, pass));
        }
        Embedded {
            embeddings,
            means: Vec::new(),
        }
    }

    fn loss(&self, model: &Clip<B>, embeddings: Vec<Tensor<B, 2>>) -> Losses<B> {
        let [image, text] = embeddings
            .try_into()
            .expect("a batch has one text per image");
        let total = match (self.loss, &model.logit_bias) {
            (ContrastiveLoss::Softmax, _) => loss::contrastive(image, text, model.scale()),
            (ContrastiveLoss::Sigmoid, Some(bias)) => {
                loss::sigmoid(image, text, model.scale(), bias.val())
            }
            (ContrastiveLoss::Sigmoid, None) => {
                panic!("the sigmoid loss needs a model with init_logit_bias in its configuration")
            }
        };
        Losses {
            total,
            parts: Vec::new(),
        }
    }

    fn samples(&self, batch: &ImageTextBatch) -> usize {
        batch.pixels.n
    }

    fn export(&self, model: &Clip<B>, dir: &Path) -> Result<(), BoxError> {
        Ok(self.pretrained(model.valid()).write_into(dir)?)
    }
}
