//! CLIP's ResNet (Radford et al., 2021, section 2.4), open_clip's `ModifiedResNet`.
//!
//! Against torchvision's: a stem of three convolutions, average pooling before every stride (Zhang, 2019), and pooling
//! by attention at the end. Fields carry the names of open_clip's state dict.

use crate::nn::init::Init;
use crate::nn::{AttentionPool2d, BatchNorm, Conv, Linear, projection};
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::relu;
use burn::tensor::module::avg_pool2d;

/// Pixels of the image, along a side, for one token at the end.
pub(crate) const REDUCTION: usize = 32;

/// Channels that leave a bottleneck, over those inside of it.
const EXPANSION: usize = 4;

/// Architecture of a [`ResNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct ResNetConfig {
    /// Side of the square input in pixels, a multiple of 32.
    pub image_size: usize,
    /// Bottlenecks of each stage.
    pub stages: [usize; 4],
    /// Channels behind the stem, an even number; 32 times as many reach the attention pool.
    pub width: usize,
    /// Heads of the attention pool; divides `32 · width`.
    pub heads: usize,
    /// Dimension of the space shared with the text tower.
    pub embed_dim: usize,
    /// Dtype of the activations inside the tower.
    pub compute: DType,
}

impl ResNetConfig {
    /// Tokens along a side at the end.
    pub fn grid(&self) -> usize {
        self.image_size / REDUCTION
    }

    /// Channels of these tokens.
    pub fn pooled_width(&self) -> usize {
        self.width * 8 * EXPANSION
    }

    /// A tower with initial weights, distributed as open_clip's: every bottleneck begins as its shortcut.
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> ResNet<B> {
        let (width, half) = (self.width, self.width / 2);
        let (conv1, conv2, conv3) = (
            Conv::new(3, half, 3, 2, init, device),
            Conv::new(half, half, 3, 1, init, device),
            Conv::new(half, width, 3, 1, init, device),
        );
        let mut inputs = width;
        let [layer1, layer2, layer3, layer4] = [0, 1, 2, 3].map(|stage| {
            let channels = width << stage;
            let blocks = (0..self.stages[stage]).map(|block| {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let block = Bottleneck::new(inputs, channels, stride, init, device);
                inputs = channels * EXPANSION;
                block
            });
            blocks.collect::<Vec<_>>()
        });
        let patches = self.grid() * self.grid();
        let (pooled, embed_dim) = (self.pooled_width(), self.embed_dim);
        ResNet {
            conv1,
            bn1: BatchNorm::new(half, init, device),
            conv2,
            bn2: BatchNorm::new(half, init, device),
            conv3,
            bn3: BatchNorm::new(width, init, device),
            layer1,
            layer2,
            layer3,
            layer4,
            attnpool: AttentionPool2d::new(patches, pooled, self.heads, embed_dim, init, device),
            compute: self.compute,
        }
    }

    /// The initial projection to the embedding.
    pub(crate) fn new_head<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Linear<B> {
        projection(self.pooled_width(), self.embed_dim, init, device)
    }
}

/// Encodes images into the shared space. Batch norms take the statistics of the checkpoint, in training too.
#[derive(Module, Debug)]
pub struct ResNet<B: Backend> {
    /// First convolution of the stem, with stride 2.
    pub conv1: Conv<B>,
    /// Its norm.
    pub bn1: BatchNorm<B>,
    /// Second convolution of the stem.
    pub conv2: Conv<B>,
    /// Its norm.
    pub bn2: BatchNorm<B>,
    /// Third convolution of the stem.
    pub conv3: Conv<B>,
    /// Its norm.
    pub bn3: BatchNorm<B>,
    /// First stage.
    pub layer1: Vec<Bottleneck<B>>,
    /// Second stage, at half the resolution.
    pub layer2: Vec<Bottleneck<B>>,
    /// Third stage, at a quarter.
    pub layer3: Vec<Bottleneck<B>>,
    /// Fourth stage, at an eighth.
    pub layer4: Vec<Bottleneck<B>>,
    /// From the tokens of the last stage to the embedding.
    pub attnpool: AttentionPool2d<B>,
    #[module(skip)]
    compute: DType,
}

impl<B: Backend> ResNet<B> {
    /// One embedding per image, not normalized.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`, normalized with the checkpoint's mean and std
    /// - output: `[batch, embed_dim]`, f32
    ///
    /// # Panics
    ///
    /// Panics if the image does not have the configured size.
    pub fn forward(&self, image: Tensor<B, 4>) -> Tensor<B, 2> {
        self.head(self.tokens(image))
    }

    /// Tokens of an image at the end.
    pub fn patches(&self) -> usize {
        self.attnpool.positional_embedding.lazy_shape()[0] - 1
    }

    /// The four stages, in order of application.
    pub fn stages(&self) -> [&[Bottleneck<B>]; 4] {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
    }

    /// The stem: the input of the first bottleneck.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, side, side]`
    /// - output: `[batch, channels, (side / 4)²]`, pixels row by row
    ///
    /// # Panics
    ///
    /// Panics if the image does not have the configured size.
    pub fn embed(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        let side = self.patches().isqrt() * REDUCTION;
        assert_eq!(
            image.dims()[2..],
            [side; 2],
            "height and width of the image, and those that the tower was built for"
        );
        let x = image.cast(self.compute);
        let x = relu(self.conv1.forward(x, &self.bn1));
        let x = relu(self.conv2.forward(x, &self.bn2));
        let x = relu(self.conv3.forward(x, &self.bn3));
        halve(x).flatten(2, 3)
    }

    /// The output of the last stage.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, 3, side, side]`
    /// - output: `[batch, patches, 32 · width]`
    pub fn tokens(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        let blocks = self.stages().into_iter().flatten();
        let x = blocks.fold(self.embed(image), |x, block| block.forward(x));
        x.swap_dims(1, 2)
    }

    /// From the output of the last stage to the embedding.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, patches, 32 · width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn head(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        self.attnpool.forward(x).cast(DType::F32)
    }
}

/// Residual block of three convolutions, the second of which sees neighbours.
#[derive(Module, Debug)]
pub struct Bottleneck<B: Backend> {
    /// To fewer channels.
    pub conv1: Conv<B>,
    /// Its norm.
    pub bn1: BatchNorm<B>,
    /// Over neighbours.
    pub conv2: Conv<B>,
    /// Its norm.
    pub bn2: BatchNorm<B>,
    /// To four times as many channels; the resolution was halved before, where the block does so.
    pub conv3: Conv<B>,
    /// Its norm.
    pub bn3: BatchNorm<B>,
    /// Convolution and norm of the shortcut, where number or size of the channels change.
    pub downsample: Option<(Conv<B>, BatchNorm<B>)>,
    /// Whether the resolution is halved.
    pub halves: bool,
}

impl<B: Backend> Bottleneck<B> {
    fn new(
        inputs: usize,
        channels: usize,
        stride: usize,
        init: &mut Init,
        device: &Device<B>,
    ) -> Self {
        let outputs = channels * EXPANSION;
        let (conv1, conv2, conv3) = (
            Conv::new(inputs, channels, 1, 1, init, device),
            Conv::new(channels, channels, 3, 1, init, device),
            Conv::new(channels, outputs, 1, 1, init, device),
        );
        let downsample = (stride > 1 || inputs != outputs).then(|| {
            let conv = Conv::new(inputs, outputs, 1, 1, init, device);
            (conv, BatchNorm::new(outputs, init, device))
        });
        Self {
            conv1,
            bn1: BatchNorm::new(channels, init, device),
            conv2,
            bn2: BatchNorm::new(channels, init, device),
            conv3,
            bn3: BatchNorm {
                weight: init.constant([outputs], 0.0, device),
                ..BatchNorm::new(outputs, init, device)
            },
            downsample,
            halves: stride > 1,
        }
    }

    /// Planes are handed from block to block flat, so that a stage is a stack of blocks like any other's.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, channels, side²]`, pixels of a square row by row
    /// - output: `[batch, 4 · channels inside, side²]`, or `(side / 2)²` pixels where the block halves
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, channels, pixels] = x.dims();
        let side = pixels.isqrt();
        let x = x.reshape([batch, channels, side, side]);
        let shrunk = |x| if self.halves { halve(x) } else { x };
        let y = relu(self.conv1.forward(x.clone(), &self.bn1));
        let y = relu(self.conv2.forward(y, &self.bn2));
        let y = self.conv3.forward(shrunk(y), &self.bn3);
        let shortcut = match &self.downsample {
            Some((conv, norm)) => conv.forward(shrunk(x), norm),
            None => x,
        };
        relu(y + shortcut).flatten(2, 3)
    }
}

/// The mean of every two by two pixels.
fn halve<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    avg_pool2d(x, [2; 2], [2; 2], [0; 2], true, false)
}
