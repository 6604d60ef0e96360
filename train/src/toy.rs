//! A small two-tower model for the tests of this crate: towers of `embed`, residual blocks and head, like
//! the real ones, in a few thousand parameters.

use crate::task::{Embedded, Losses, MeanLoss, Pass, Task};
use burn::backend::{Autodiff, Flex};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::activation::{gelu, log_softmax};
use burn::tensor::backend::AutodiffBackend;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub type TrainBackend = Autodiff<Flex>;

pub const INPUT: usize = 6;
pub const SEQ: usize = 4;
pub const WIDTH: usize = 8;
pub const EMBED: usize = 5;
pub const VOCAB: usize = 11;

#[derive(Module, Debug)]
pub struct Dense<B: Backend> {
    pub weight: Param<Tensor<B, 2>>,
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Dense<B> {
    fn new(input: usize, output: usize, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        Self {
            weight: matrix(input, output, rng, device),
            bias: vector(output, rng, device),
        }
    }

    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        x.matmul(self.weight.val().unsqueeze()) + self.bias.val().unsqueeze()
    }
}

#[derive(Module, Debug)]
pub struct Blocks<B: Backend> {
    pub resblocks: Vec<Dense<B>>,
}

/// One residual block.
pub fn block<B: Backend>(dense: &Dense<B>, x: Tensor<B, 3>) -> Tensor<B, 3> {
    x.clone() + gelu(dense.forward(x))
}

#[derive(Module, Debug)]
pub struct Visual<B: Backend> {
    pub embed: Dense<B>,
    pub transformer: Blocks<B>,
    pub proj: Param<Tensor<B, 2>>,
}

/// An enum, as the real towers are, to see that its variant leaves no trace in the paths.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum VisualTower<B: Backend> {
    Mlp(Visual<B>),
}

#[derive(Module, Debug)]
pub struct Text<B: Backend> {
    pub token_embedding: Param<Tensor<B, 2>>,
    pub positional_embedding: Param<Tensor<B, 2>>,
    pub transformer: Blocks<B>,
    pub text_projection: Param<Tensor<B, 2>>,
}

#[derive(Module, Debug)]
pub struct Towers<B: Backend> {
    pub visual: VisualTower<B>,
    pub text: Text<B>,
    pub logit_scale: Param<Tensor<B, 1>>,
}

impl<B: Backend> Towers<B> {
    pub fn new(seed: u64, device: &B::Device) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let blocks = |rng: &mut ChaCha8Rng| Blocks {
            resblocks: (0..2)
                .map(|_| Dense::new(WIDTH, WIDTH, rng, device))
                .collect(),
        };
        Self {
            visual: VisualTower::Mlp(Visual {
                embed: Dense::new(INPUT, WIDTH, rng, device),
                transformer: blocks(rng),
                proj: matrix(WIDTH, EMBED, rng, device),
            }),
            text: Text {
                token_embedding: matrix(VOCAB, WIDTH, rng, device),
                positional_embedding: matrix(SEQ, WIDTH, rng, device),
                transformer: blocks(rng),
                text_projection: matrix(WIDTH, EMBED, rng, device),
            },
            logit_scale: Param::from_data([(1.0f32 / 0.07).ln()], device),
        }
    }

    pub fn visual(&self) -> &Visual<B> {
        let VisualTower::Mlp(tower) = &self.visual;
        tower
    }
}

impl<B: Backend> Visual<B> {
    pub fn embed(&self, image: Tensor<B, 3>) -> Tensor<B, 3> {
        self.embed.forward(image)
    }

    pub fn head(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        x.mean_dim(1).squeeze_dim::<2>(1).matmul(self.proj.val())
    }
}

impl<B: Backend> Text<B> {
    pub fn embed(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [n, seq] = ids.dims();
        let tokens = self.token_embedding.val().select(0, ids.reshape([n * seq]));
        tokens.reshape([n, seq, WIDTH]) + self.positional_embedding.val().unsqueeze()
    }

    pub fn head(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        x.mean_dim(1)
            .squeeze_dim::<2>(1)
            .matmul(self.text_projection.val())
    }
}

fn matrix<B: Backend>(
    rows: usize,
    columns: usize,
    rng: &mut ChaCha8Rng,
    device: &B::Device,
) -> Param<Tensor<B, 2>> {
    let data: Vec<f32> = (0..rows * columns)
        .map(|_| rng.random_range(-0.5..0.5))
        .collect();
    Param::from_data(TensorData::new(data, [rows, columns]), device)
}

fn vector<B: Backend>(n: usize, rng: &mut ChaCha8Rng, device: &B::Device) -> Param<Tensor<B, 1>> {
    let data: Vec<f32> = (0..n).map(|_| rng.random_range(-0.1..0.1)).collect();
    Param::from_data(TensorData::new(data, [n]), device)
}

/// Contrastive training of [`Towers`], with or without a loss per token as a captioner has, and with one text per
/// image or several.
#[derive(Clone, Debug)]
pub struct ToyTask {
    caption_loss: bool,
    texts: i32,
}

impl Default for ToyTask {
    fn default() -> Self {
        Self {
            caption_loss: false,
            texts: 1,
        }
    }
}

impl ToyTask {
    /// Every kind of task there is.
    pub fn all() -> [Self; 3] {
        let (plain, captions) = (Self::default(), Self::with_caption_loss());
        [plain.clone(), captions, Self { texts: 5, ..plain }]
    }

    pub fn with_caption_loss() -> Self {
        Self {
            caption_loss: true,
            ..Self::default()
        }
    }
}

/// A batch of random images and texts.
#[derive(Clone, Debug)]
pub struct ToyBatch {
    pub images: Vec<f32>,
    pub ids: Vec<i32>,
}

impl ToyBatch {
    pub fn random(n: usize, seed: u64) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        Self {
            images: (0..n * SEQ * INPUT)
                .map(|_| rng.random_range(-1.0..1.0))
                .collect(),
            ids: (0..n * SEQ)
                .map(|_| rng.random_range(0..VOCAB as i32))
                .collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.ids.len() / SEQ
    }

    pub fn split(&self, sizes: &[usize]) -> Vec<Self> {
        assert_eq!(sizes.iter().sum::<usize>(), self.len());
        let mut start = 0;
        let part = |n: &usize| {
            let (from, to) = (start, start + n);
            start = to;
            Self {
                images: self.images[from * SEQ * INPUT..to * SEQ * INPUT].to_vec(),
                ids: self.ids[from * SEQ..to * SEQ].to_vec(),
            }
        };
        sizes.iter().map(part).collect()
    }
}

impl<B: AutodiffBackend> Task<B> for ToyTask {
    type Model = Towers<B>;
    type Batch = ToyBatch;

    fn embed(&self, model: &Towers<B>, batch: &ToyBatch, pass: &mut Pass<B>) -> Embedded<B> {
        let n = batch.len();
        let images = TensorData::new(batch.images.clone(), [n, SEQ, INPUT]);
        let images = Tensor::from_data(images, pass.device());
        let visual = model.visual();
        let tokens = pass.blocks(&visual.transformer.resblocks, visual.embed(images), block);
        let image = unit(visual.head(tokens.clone()));
        let mut means = Vec::new();
        if self.caption_loss {
            // Reads the image tokens, and counts another number of tokens in every batch.
            let read = pass.blocks(&model.text.transformer.resblocks, tokens, block);
            let count = batch.ids.iter().filter(|id| **id > 3).count();
            means.push(MeanLoss {
                name: "caption",
                sum: read.square().sum(),
                count,
                weight: 0.5,
            });
        }
        let mut embeddings = vec![image];
        for shift in 0..self.texts {
            let ids = batch.ids.iter().map(|id| (id + shift) % VOCAB as i32);
            let ids = TensorData::new(ids.collect::<Vec<_>>(), [n, SEQ]);
            let words = model.text.embed(Tensor::from_data(ids, pass.device()));
            let words = pass.blocks(&model.text.transformer.resblocks, words, block);
            embeddings.push(unit(model.text.head(words)));
        }
        Embedded { embeddings, means }
    }

    fn loss(&self, model: &Towers<B>, embeddings: Vec<Tensor<B, 2>>) -> Losses<B> {
        let [image, texts @ ..] = embeddings.as_slice() else {
            panic!("there are no embeddings")
        };
        let text = Tensor::stack::<3>(texts.to_vec(), 0)
            .mean_dim(0)
            .squeeze_dim(0);
        let scale = model.logit_scale.val().exp().unsqueeze();
        let logits = image.clone().matmul(text.transpose()) * scale;
        let nll = |logits: Tensor<B, 2>| {
            let n = logits.dims()[0];
            let own = Tensor::<B, 2>::eye(n, &logits.device());
            -(log_softmax(logits, 1) * own).sum() / n as f64
        };
        let image_to_text = nll(logits.clone());
        let text_to_image = nll(logits.transpose());
        let total = (image_to_text.clone() + text_to_image) / 2.0;
        Losses {
            total,
            parts: vec![("image_to_text".into(), image_to_text)],
        }
    }

    fn samples(&self, batch: &ToyBatch) -> usize {
        batch.len()
    }
}

fn unit<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let norm = x.clone().square().sum_dim(1).sqrt();
    x / norm
}

/// Gradients on the host, by path.
pub fn flat_gradients<B: AutodiffBackend>(
    model: &Towers<B>,
    gradients: &GradientsParams,
) -> Vec<(String, Vec<f32>)> {
    let mut found = Vec::new();
    for parameter in crate::parameters::parameters(model) {
        let id = parameter.id;
        let data = match parameter.shape.len() {
            1 => gradients
                .get::<B::InnerBackend, 1>(id)
                .map(|g| g.into_data()),
            _ => gradients
                .get::<B::InnerBackend, 2>(id)
                .map(|g| g.into_data()),
        };
        found.extend(data.map(|data| (parameter.path, data.iter::<f32>().collect())));
    }
    found
}
