//! A small two-tower model for the tests of this crate: towers of `embed`, residual blocks and head, like
//! the real ones, in a few thousand parameters.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, Param};
use burn::prelude::*;
use burn::tensor::activation::gelu;
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
        Self { weight: matrix(input, output, rng, device), bias: vector(output, rng, device) }
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
        let mut blocks = |rng: &mut ChaCha8Rng| Blocks {
            resblocks: (0..2).map(|_| Dense::new(WIDTH, WIDTH, rng, device)).collect(),
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
        x.mean_dim(1).squeeze_dim::<2>(1).matmul(self.text_projection.val())
    }
}

fn matrix<B: Backend>(
    rows: usize,
    columns: usize,
    rng: &mut ChaCha8Rng,
    device: &B::Device,
) -> Param<Tensor<B, 2>> {
    let data: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-0.5..0.5)).collect();
    Param::from_data(TensorData::new(data, [rows, columns]), device)
}

fn vector<B: Backend>(n: usize, rng: &mut ChaCha8Rng, device: &B::Device) -> Param<Tensor<B, 1>> {
    let data: Vec<f32> = (0..n).map(|_| rng.random_range(-0.1..0.1)).collect();
    Param::from_data(TensorData::new(data, [n]), device)
}
