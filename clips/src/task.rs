//! One step of CLIPS: two contrastive losses and the captioner's (sections 3.2 and 3.3 of the paper).

use crate::captioner::{Captioner, CaptionerConfig};
use crate::model::{Clips, ClipsModel, read_tokens};
use crate::texts::{Caption, ClipsBatch, previous};
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::backend::AutodiffBackend;
use clip::loss::by_rows;
use clip::nn::{Block, PatchDropout, l2_normalize};
use clip::preprocess::Preprocess;
use clip::tokenizer::Tokenizer;
use clip::{ModelConfig, Pretrained};
use llm::lm::{Predictions, cross_entropy};
use train::image_text::towers::{image_tokens, text_tokens};
use train::{BoxError, Embedded, Embeddings, Losses, MeanLoss, Pass, Task};

/// Contrastive training on several texts of an image, with a captioner if the model has one.
#[derive(Clone, Debug)]
pub struct ClipsTask {
    /// The texts of a batch, in its order. With a captioner one is [`Caption::Web`].
    pub captions: Vec<Caption>,
    /// Weight of the contrastive loss.
    pub contrastive_weight: f64,
    /// Weight of the captioner's loss.
    pub caption_weight: f64,
    /// Leaves out patches of the training images.
    pub patch_dropout: Option<PatchDropout>,
    captioner: Option<CaptionerConfig>,
    preprocess: Preprocess,
    tokenizer: Tokenizer,
    config: ModelConfig,
}

/// Memory for logits of the captioner, in bytes.
const LOGITS: usize = 64 << 20;

impl ClipsTask {
    /// The task for a model of this kind, with the paper's weights 1 and 2.
    pub fn new<B: Backend>(
        of: &Pretrained<B>,
        captioner: Option<CaptionerConfig>,
        captions: Vec<Caption>,
    ) -> Self {
        Self {
            captions,
            contrastive_weight: 1.0,
            caption_weight: 2.0,
            patch_dropout: None,
            captioner,
            preprocess: of.preprocess.clone(),
            tokenizer: of.tokenizer.clone(),
            config: of.config.clone(),
        }
    }

    /// The captioner's loss on a micro-batch: a mean over the tokens that are there, whatever image they belong to.
    ///
    /// # Shapes
    ///
    /// - image, text: what [`Captioner::prefix`] takes
    fn caption_loss<B: AutodiffBackend>(
        &self,
        captioner: &Captioner<B>,
        [image, text]: [Tensor<B, 3>; 2],
        targets: &[Vec<i32>],
        pass: &mut Pass<B>,
    ) -> Result<MeanLoss<B>, BoxError> {
        let frame = self.tokenizer.frame_ids().ok_or(crate::texts::NO_FRAME)?;
        let prefix = captioner.prefix(image, text);
        let ([batch, seq, _], dtype) = (prefix.dims(), prefix.dtype());
        // Positions behind the longest caption change nothing: the ones before do not read them.
        let longest = targets.iter().map(Vec::len).max().unwrap_or(0);
        let count = longest.next_multiple_of(16).min(captioner.queries());
        let previous = captioner.is_autoregressive().then(|| {
            let ids = previous(targets, frame.start, count);
            Tensor::from_data(TensorData::new(ids, [batch, count]), pass.device())
        });
        let inputs = captioner.inputs(batch, count, previous).cast(dtype);
        let mask = Captioner::<B>::mask(seq, count, pass.device());
        let x = Tensor::cat(vec![prefix, inputs], 1);
        let blocks = &captioner.transformer.resblocks;
        let x = pass.blocks(blocks, x, move |block: &Block<B>, x| {
            block.forward(x, Some(mask.clone()))
        });
        let labels: Vec<Option<u32>> = targets
            .iter()
            .flat_map(|target| (0..count).map(|place| target.get(place).map(|id| *id as u32)))
            .collect();
        let labels = Predictions::in_place(&labels);
        let mean = cross_entropy(
            captioner.predicted(x, count),
            captioner.head.weight.val(),
            &labels,
            LOGITS,
        );
        Ok(MeanLoss {
            name: "caption",
            sum: mean * labels.len() as f64,
            count: labels.len(),
            weight: self.caption_weight,
        })
    }
}

impl<B: AutodiffBackend> Task<B> for ClipsTask {
    type Model = ClipsModel<B>;
    type Batch = ClipsBatch;
    type Trained = Clips<B::InnerBackend>;

    /// Gives `image` once and each text under its name. All texts go through the text tower at once.
    fn embed(
        &self,
        model: &ClipsModel<B>,
        batch: &ClipsBatch,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError> {
        let n = batch.pixels.n;
        let pixels = batch
            .pixels
            .clone()
            .to_tensor(self.preprocess.config(), pass.device());
        let patches = image_tokens(&model.visual, pixels, self.patch_dropout, pass)?;
        let image = l2_normalize(model.visual.head(patches.clone()));
        let ids: Tensor<B, 2, Int> = batch.texts.clone().to_tensor(pass.device());
        let words = text_tokens(&model.text, ids.clone(), pass);
        let texts = l2_normalize(model.text.head(words.clone(), ids));
        let mut embedded = Embedded::default().with("image", image);
        for (slot, caption) in self.captions.iter().enumerate() {
            embedded = embedded.with(caption.name(), texts.clone().narrow(0, slot * n, n));
        }
        if let Some(captioner) = &model.captioner {
            let web = self
                .captions
                .iter()
                .position(|caption| *caption == Caption::Web);
            let web = web.ok_or("the captioner reads web captions, and the batch has none")?;
            let read = [
                model.visual.raw_patch_tokens(patches),
                read_tokens(&model.text, words.narrow(0, web * n, n)),
            ];
            embedded =
                embedded.with_mean(self.caption_loss(captioner, read, &batch.targets, pass)?);
        }
        Ok(embedded)
    }

    /// The mean over the texts of CLIP's loss with each: texts of one kind are told apart among themselves.
    fn loss(
        &self,
        model: &ClipsModel<B>,
        mut embeddings: Embeddings<B>,
    ) -> Result<Losses<B>, BoxError> {
        let rows = embeddings.rows();
        let image = embeddings.one("image")?;
        let scale = model.logit_scale.val().cast(DType::F32).exp();
        let mut parts: Vec<(String, Tensor<B, 1>)> = Vec::new();
        for caption in &self.captions {
            let text = embeddings.one(caption.name())?;
            parts.push((
                caption.name().into(),
                by_rows::contrastive(rows.clone(), image.clone(), text, scale.clone()),
            ));
        }
        let losses = parts.iter().map(|(_, loss)| loss.clone());
        let sum = losses
            .reduce(|sum, loss| sum + loss)
            .ok_or("no text is compared with the images")?;
        Ok(Losses {
            total: sum * (self.contrastive_weight / parts.len() as f64),
            parts,
        })
    }

    fn by_rows(&self) -> bool {
        true
    }

    fn samples(&self, batch: &ClipsBatch) -> usize {
        batch.pixels.n
    }

    fn trained(&self, model: ClipsModel<B::InnerBackend>) -> Clips<B::InnerBackend> {
        let (model, captioner) = model.into_parts();
        Clips {
            encoders: Pretrained {
                model,
                preprocess: self.preprocess.clone(),
                tokenizer: self.tokenizer.clone(),
                config: self.config.clone(),
            },
            captioner: captioner.zip(self.captioner),
        }
    }
}
