//! The text adapter: an inverted bottleneck with residuals between a language model's vectors and the shared space
//! (`TextProj` of the release; "linear×4" of the paper's table A7).

use burn::prelude::*;
use burn::tensor::DType;
use clip::nn::init::Init;
use clip::nn::{Activation, LayerNorm, Linear, l2_normalize};
use serde::{Deserialize, Serialize};

/// Epsilon of the adapter's norms.
const NORM_EPS: f64 = 1e-5;

/// Architecture of an [`Adapter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// Length of the language model's vectors.
    pub width: usize,
    /// Dimension of the shared space; 1280 in the release, 1152 beside SigLIP 2.
    pub embed_dim: usize,
    /// Residual blocks; 4 in the release.
    pub blocks: usize,
    /// Hidden width of a block over its width; 2 in the release.
    pub expansion: usize,
    /// Whether vectors are brought to unit length first; yes, but for the release's path with a live language model.
    pub normalize: bool,
}

impl AdapterConfig {
    /// The release's, for vectors of this length.
    pub fn new(width: usize, embed_dim: usize) -> Self {
        Self {
            width,
            embed_dim,
            blocks: 4,
            expansion: 2,
            normalize: true,
        }
    }

    /// An adapter with PyTorch's default initial weights.
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Adapter<B> {
        let (width, hidden) = (self.width, self.expansion * self.width);
        let blocks = (0..self.blocks).map(|_| AdapterBlock {
            ln: LayerNorm::new(width, NORM_EPS, init, device),
            up: Linear::new(width, hidden, init, device),
            down: Linear::new(hidden, width, init, device),
        });
        Adapter {
            blocks: blocks.collect(),
            norm: LayerNorm::new(width, NORM_EPS, init, device),
            proj: Linear::new(width, self.embed_dim, init, device),
            normalize: self.normalize,
        }
    }
}

/// Brings vectors of texts into the shared space.
#[derive(Module, Debug)]
pub struct Adapter<B: Backend> {
    /// Residual blocks, in order of application.
    pub blocks: Vec<AdapterBlock<B>>,
    /// Norm after the blocks.
    pub norm: LayerNorm<B>,
    /// `[embed_dim, width]`, with bias.
    pub proj: Linear<B>,
    /// Whether vectors are brought to unit length first.
    pub normalize: bool,
}

impl<B: Backend> Adapter<B> {
    /// One embedding per vector, not normalised: `embed → blocks → head`.
    ///
    /// # Shapes
    ///
    /// - vectors: `[batch, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn forward(&self, vectors: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = self.embed(vectors);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.head(x)
    }

    /// The input of the first block, as a sequence of one.
    ///
    /// # Shapes
    ///
    /// - vectors: `[batch, width]`
    /// - output: `[batch, 1, width]`
    pub fn embed(&self, vectors: Tensor<B, 2>) -> Tensor<B, 3> {
        let vectors = match self.normalize {
            true => l2_normalize(vectors),
            false => vectors,
        };
        vectors.unsqueeze_dim(1)
    }

    /// From the output of the last block to the embedding.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, 1, width]`
    /// - output: `[batch, embed_dim]`, f32
    pub fn head(&self, x: Tensor<B, 3>) -> Tensor<B, 2> {
        let x = self.proj.forward(self.norm.forward(x));
        x.squeeze_dim::<2>(1).cast(DType::F32)
    }
}

/// `x + down(gelu(up(ln(x))))`, with the exact GELU.
#[derive(Module, Debug)]
pub struct AdapterBlock<B: Backend> {
    /// Norm of the branch.
    pub ln: LayerNorm<B>,
    /// width → hidden.
    pub up: Linear<B>,
    /// hidden → width.
    pub down: Linear<B>,
}

impl<B: Backend> AdapterBlock<B> {
    /// # Shapes
    ///
    /// - x, output: `[batch, 1, width]`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let hidden = self.up.forward(self.ln.forward(x.clone()));
        x + self.down.forward(Activation::Gelu.forward(hidden))
    }
}
