//! Plain CLIP: one text per image (Radford et al., 2021), or SigLIP's loss over the same batch.

use super::towers::{embed_images, embed_texts};
use crate::error::BoxError;
use crate::trainer::Pass;
use crate::trainer::task::{Embedded, Embeddings, Losses, Stored, Task, Trained};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::loss::by_rows;
use clip::nn::PatchDropout;
use clip::preprocess::{PixelBatch, Preprocess};
use clip::tokenizer::{TokenBatch, Tokenizer};
use clip::{Clip, ModelConfig, Pretrained};
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
    type Trained = Pretrained<B::InnerBackend>;

    /// Gives `image` once and `text` for each text of an image.
    fn embed(
        &self,
        model: &Clip<B>,
        batch: &ImageTextBatch,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError> {
        let pixels = batch.pixels.clone();
        let images = pixels.to_tensor(self.preprocess.config(), pass.device());
        let image = embed_images(&model.visual, images, self.patch_dropout, pass)?;
        let mut embedded = Embedded::default().with("image", image);
        for texts in &batch.texts {
            let ids = model.text.trim(texts.clone()).to_tensor(pass.device());
            embedded = embedded.with("text", embed_texts(&model.text, ids, pass));
        }
        Ok(embedded)
    }

    fn loss(&self, model: &Clip<B>, mut embeddings: Embeddings<B>) -> Result<Losses<B>, BoxError> {
        let rows = embeddings.rows();
        let (image, text) = (embeddings.one("image")?, embeddings.one("text")?);
        let total = match (self.loss, &model.logit_bias) {
            (ContrastiveLoss::Softmax, _) => by_rows::contrastive(rows, image, text, model.scale()),
            (ContrastiveLoss::Sigmoid, Some(bias)) => {
                by_rows::sigmoid(rows, image, text, model.scale(), bias.val())
            }
            (ContrastiveLoss::Sigmoid, None) => return Err(NO_BIAS.into()),
        };
        Ok(total.into())
    }

    fn by_rows(&self) -> bool {
        true
    }

    fn samples(&self, batch: &ImageTextBatch) -> usize {
        batch.pixels.n
    }

    fn trained(&self, model: Clip<B::InnerBackend>) -> Pretrained<B::InnerBackend> {
        self.pretrained(model)
    }
}

/// [`Contrastive`] with another loss of the embeddings `image` (once) and `text` (once for each text of an image).
#[derive(Clone, Debug)]
pub struct WithLoss<F> {
    /// Embedding and export.
    pub base: Contrastive,
    /// The loss of the embeddings of the whole batch.
    pub loss: F,
    /// Whether the loss answers for [`Embeddings::rows`] only; see [`Task::by_rows`].
    pub by_rows: bool,
}

impl Contrastive {
    /// The same task with another loss.
    pub fn with_loss<B, F>(self, loss: F) -> WithLoss<F>
    where
        B: AutodiffBackend,
        F: Fn(&Clip<B>, Embeddings<B>) -> Result<Losses<B>, BoxError>,
    {
        WithLoss {
            base: self,
            loss,
            by_rows: false,
        }
    }
}

impl<B, F> Task<B> for WithLoss<F>
where
    B: AutodiffBackend,
    F: Fn(&Clip<B>, Embeddings<B>) -> Result<Losses<B>, BoxError>,
{
    type Model = Clip<B>;
    type Batch = ImageTextBatch;
    type Trained = Pretrained<B::InnerBackend>;

    fn embed(
        &self,
        model: &Clip<B>,
        batch: &ImageTextBatch,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError> {
        self.base.embed(model, batch, pass)
    }

    fn loss(&self, model: &Clip<B>, embeddings: Embeddings<B>) -> Result<Losses<B>, BoxError> {
        (self.loss)(model, embeddings)
    }

    fn by_rows(&self) -> bool {
        self.by_rows
    }

    fn samples(&self, batch: &ImageTextBatch) -> usize {
        batch.pixels.n
    }

    fn trained(&self, model: Clip<B::InnerBackend>) -> Pretrained<B::InnerBackend> {
        self.base.pretrained(model)
    }
}

/// Why the sigmoid loss cannot be taken.
pub(crate) const NO_BIAS: &str = "the sigmoid loss needs a model with a bias: give it model.init_logit_bias = -10 (and \
                                  model.init_logit_scale = 2.3026, as SigLIP starts), or a configuration that has them";

impl<B: Backend> Trained for Pretrained<B> {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        Ok(Pretrained::write_into(self, dir)?)
    }

    fn stored(&self, path: &str) -> Option<Stored> {
        let (file, tensor) = self.exported_name(path);
        Some(Stored { file, tensor })
    }
}
