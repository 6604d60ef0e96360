//! A small two-tower model for the tests of this crate: towers of `embed`, residual blocks and head, like
//! the real ones, in a few thousand parameters.

use crate::error::BoxError;
use crate::optimizer::Gradients;
use crate::trainer::Pass;
use crate::trainer::task::{Embedded, Embeddings, Losses, MeanLoss, Task, Trained};
use burn::backend::{Autodiff, Flex};
use burn::module::{Module, Param};
use burn::prelude::*;
use burn::tensor::Distribution;
use burn::tensor::activation::{gelu, log_softmax};
use burn::tensor::backend::AutodiffBackend;
use clip::loss::by_rows;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

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

/// One residual block that leaves out a quarter of what it adds, in two places.
pub fn dropping_block<B: Backend>(dense: &Dense<B>, x: Tensor<B, 3>) -> Tensor<B, 3> {
    let kept = |x: &Tensor<B, 3>| {
        let kept = Distribution::Bernoulli(0.75);
        Tensor::random(x.dims(), kept, &x.device()) / 0.75
    };
    let inside = dense.forward(x.clone() * kept(&x));
    let kept = kept(&inside);
    x + gelu(inside) * kept
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

/// Reads both towers, as a captioner does: a third stack that is fed by the two others.
#[derive(Module, Debug)]
pub struct Reader<B: Backend> {
    pub image: Param<Tensor<B, 2>>,
    pub text: Param<Tensor<B, 2>>,
    pub queries: Param<Tensor<B, 2>>,
    pub transformer: Blocks<B>,
}

#[derive(Module, Debug)]
pub struct Towers<B: Backend> {
    pub visual: VisualTower<B>,
    pub text: Text<B>,
    pub reader: Option<Reader<B>>,
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
            reader: None,
            logit_scale: Param::from_data([(1.0f32 / 0.07).ln()], device),
        }
    }

    pub fn with_reader(self, seed: u64, device: &B::Device) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let reader = Reader {
            image: matrix(WIDTH, WIDTH, rng, device),
            text: matrix(WIDTH, WIDTH, rng, device),
            queries: matrix(2, WIDTH, rng, device),
            transformer: Blocks {
                resblocks: (0..2)
                    .map(|_| Dense::new(WIDTH, WIDTH, rng, device))
                    .collect(),
            },
        };
        Self {
            reader: Some(reader),
            ..self
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

/// Contrastive training of [`Towers`], with or without a loss per token as a captioner has, with one text per image or
/// several, and with dropout inside blocks.
#[derive(Clone, Debug)]
pub struct ToyTask {
    caption_loss: bool,
    reader: bool,
    dropout: bool,
    texts: i32,
    /// Rows in a chunk of the loss.
    chunk: Option<usize>,
}

impl Default for ToyTask {
    fn default() -> Self {
        Self {
            caption_loss: false,
            reader: false,
            dropout: false,
            texts: 1,
            chunk: None,
        }
    }
}

impl ToyTask {
    /// Every kind of task there is.
    pub fn all() -> Vec<Self> {
        let plain = Self::default();
        vec![
            plain.clone(),
            Self::with_caption_loss(),
            Self {
                texts: 5,
                ..plain.clone()
            },
            Self {
                reader: true,
                ..plain.clone()
            },
            Self {
                dropout: true,
                ..plain.clone()
            },
            Self {
                reader: true,
                dropout: true,
                caption_loss: true,
                texts: 2,
                chunk: None,
            },
        ]
    }

    pub fn with_caption_loss() -> Self {
        Self {
            caption_loss: true,
            ..Self::default()
        }
    }

    /// The same task with a loss in chunks of so many rows, or of all at once.
    pub fn in_chunks(self, chunk: Option<usize>) -> Self {
        Self { chunk, ..self }
    }

    /// The model of this task.
    pub fn model<B: Backend>(&self, seed: u64, device: &B::Device) -> Towers<B> {
        let towers = Towers::new(seed, device);
        match self.reader {
            true => towers.with_reader(seed + 1, device),
            false => towers,
        }
    }

    fn block<B: Backend>(&self) -> fn(&Dense<B>, Tensor<B, 3>) -> Tensor<B, 3> {
        match self.dropout {
            true => dropping_block,
            false => block,
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
    type Trained = ToyTrained<B::InnerBackend>;

    fn embed(
        &self,
        model: &Towers<B>,
        batch: &ToyBatch,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError> {
        let (n, block) = (batch.len(), self.block());
        let images = TensorData::new(batch.images.clone(), [n, SEQ, INPUT]);
        let images = Tensor::from_data(images, pass.device());
        let visual = model.visual();
        let tokens = pass.blocks(&visual.transformer.resblocks, visual.embed(images), block);
        let mut embedded = Embedded::default().with("image", unit(visual.head(tokens.clone())));
        let mean = |name, sum, least| MeanLoss {
            name,
            sum,
            // Another number of tokens in every batch.
            count: batch.ids.iter().filter(|id| **id > least).count(),
            weight: 0.5,
        };
        if self.caption_loss {
            let blocks = &model.text.transformer.resblocks;
            let read = pass.blocks(blocks, tokens.clone(), block);
            embedded = embedded.with_mean(mean("caption", read.square().sum(), 3));
        }
        let mut words = None;
        for shift in 0..self.texts {
            let ids = batch.ids.iter().map(|id| (id + shift) % VOCAB as i32);
            let ids = TensorData::new(ids.collect::<Vec<_>>(), [n, SEQ]);
            let embeds = model.text.embed(Tensor::from_data(ids, pass.device()));
            let read = pass.blocks(&model.text.transformer.resblocks, embeds, block);
            embedded = embedded.with("text", unit(model.text.head(read.clone())));
            words = Some(read);
        }
        if let (Some(reader), Some(words)) = (&model.reader, words) {
            let queries = reader.queries.val().unsqueeze::<3>().expand([n, 2, WIDTH]);
            let image = tokens.matmul(reader.image.val().unsqueeze());
            let text = words.matmul(reader.text.val().unsqueeze());
            let both = Tensor::cat(vec![image, text, queries], 1);
            let read = pass.blocks(&reader.transformer.resblocks, both, block);
            let answers = read.narrow(1, 2 * SEQ, 2);
            embedded = embedded.with_mean(mean("reader", answers.square().sum(), 5));
        }
        Ok(embedded)
    }

    fn loss(
        &self,
        model: &Towers<B>,
        mut embeddings: Embeddings<B>,
    ) -> Result<Losses<B>, BoxError> {
        let rows = embeddings.rows();
        let (image, texts) = (embeddings.one("image")?, embeddings.all("text"));
        let text = Tensor::stack::<3>(texts, 0).mean_dim(0).squeeze_dim(0);
        if let Some(chunk) = self.chunk {
            let scale = model.logit_scale.val().exp();
            return Ok(by_rows::contrastive_in(chunk, rows, image, text, scale).into());
        }
        let scale = model.logit_scale.val().exp().unsqueeze();
        let logits = image.matmul(text.transpose()) * scale;
        let nll = |logits: Tensor<B, 2>| {
            let n = logits.dims()[0];
            let own = Tensor::<B, 2>::eye(n, &logits.device());
            -(log_softmax(logits, 1) * own).sum() / n as f64
        };
        let image_to_text = nll(logits.clone());
        let text_to_image = nll(logits.transpose());
        let total = (image_to_text.clone() + text_to_image) / 2.0;
        Ok(Losses {
            total,
            parts: vec![("image_to_text".into(), image_to_text)],
        })
    }

    fn by_rows(&self) -> bool {
        self.chunk.is_some()
    }

    fn samples(&self, batch: &ToyBatch) -> usize {
        batch.len()
    }

    fn trained(&self, model: Towers<B::InnerBackend>) -> ToyTrained<B::InnerBackend> {
        ToyTrained(model)
    }
}

/// A trained toy, which nobody else can load: its file tells one from another.
#[derive(Debug)]
pub struct ToyTrained<B: Backend>(pub Towers<B>);

impl<B: Backend> Trained for ToyTrained<B> {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        let scale = self.0.logit_scale.val().into_data();
        let scale: Vec<f32> = scale.iter().collect();
        Ok(std::fs::write(dir.join("model.txt"), format!("{scale:?}"))?)
    }
}

fn unit<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let norm = x.clone().square().sum_dim(1).sqrt();
    x / norm
}

/// Gradients on the host, by path.
pub fn flat_gradients<B: AutodiffBackend>(
    model: &Towers<B>,
    gradients: &Gradients<B::InnerBackend>,
) -> Vec<(String, Vec<f32>)> {
    let listed = crate::parameters::parameters(model).into_iter();
    let found = listed.filter_map(|parameter| {
        let values = gradients.get(parameter.id)?.to_data();
        Some((parameter.path, values.iter::<f32>().collect()))
    });
    found.collect()
}
