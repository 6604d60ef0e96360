use super::init::Init;
use super::{Activation, Attention, LayerNorm, Linear, Mlp};
use burn::module::Param;
use burn::prelude::*;

/// Shape of the residual blocks of a tower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub hidden: usize,
    /// Nonlinearity of the MLP.
    pub activation: Activation,
    /// Epsilon of every layer norm.
    pub norm_eps: f64,
    /// Norm of queries and keys per head, before they are scaled.
    pub qk_norm: bool,
    /// Initial value of LayerScale; `None` leaves it out.
    pub layer_scale: Option<f32>,
}

/// How the weights of a block start; the two towers of the reference differ.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum BlockInit {
    /// Normal with deviations that shrink with width and depth (Radford et al., 2021, text tower).
    ScaledNormal {
        /// Number of blocks in the tower.
        layers: usize,
    },
    /// PyTorch's defaults for `MultiheadAttention` and `Linear` (vision tower of open_clip).
    PyTorch,
    /// PyTorch's defaults for `Linear` in the attention too, biases included (vision tower of LaCLIP).
    Linear,
    /// Truncated normal with deviation 0.02, biases zero (timm's vision transformers).
    TruncatedNormal,
    /// Normal with deviation 0.02 but for the last layer of the MLP, biases zero (vision tower of CLIPS).
    ClipsVision,
    /// As [`BlockInit::ScaledNormal`] for twelve blocks, whatever their number, and with biases zero (text tower and
    /// decoder of CLIPS).
    ClipsText,
}

impl BlockConfig {
    /// A block with initial weights.
    pub fn init<B: Backend>(
        &self,
        how: BlockInit,
        init: &mut Init,
        device: &Device<B>,
    ) -> Block<B> {
        let (width, hidden) = (self.width, self.hidden);
        let w = width as f64;
        let (in_proj, out_proj, c_fc, c_proj) = match how {
            BlockInit::ScaledNormal { layers } => {
                let proj_std = w.powf(-0.5) * (2.0 * layers as f64).powf(-0.5);
                let mut c_fc = Linear::new(width, hidden, init, device);
                c_fc.weight = init.normal([hidden, width], (2.0 * w).powf(-0.5), device);
                let mut c_proj = Linear::new(hidden, width, init, device);
                c_proj.weight = init.normal([width, hidden], proj_std, device);
                (
                    Linear::normal(width, 3 * width, w.powf(-0.5), init, device),
                    Linear::normal(width, width, proj_std, init, device),
                    c_fc,
                    c_proj,
                )
            }
            BlockInit::PyTorch => {
                let xavier = (6.0 / (4.0 * w)).sqrt();
                let zero_bias = |mut linear: Linear<B>, init: &Init| {
                    let outputs = linear.weight.lazy_shape()[0];
                    linear.bias = Some(init.constant([outputs], 0.0, device));
                    linear
                };
                let mut in_proj = Linear::new(width, 3 * width, init, device);
                in_proj.weight = init.uniform([3 * width, width], xavier, device);
                let out_proj = Linear::new(width, width, init, device);
                (
                    zero_bias(in_proj, init),
                    zero_bias(out_proj, init),
                    Linear::new(width, hidden, init, device),
                    Linear::new(hidden, width, init, device),
                )
            }
            BlockInit::Linear => (
                Linear::new(width, 3 * width, init, device),
                Linear::new(width, width, init, device),
                Linear::new(width, hidden, init, device),
                Linear::new(hidden, width, init, device),
            ),
            BlockInit::TruncatedNormal => (
                Linear::truncated_normal(width, 3 * width, 0.02, init, device),
                Linear::truncated_normal(width, width, 0.02, init, device),
                Linear::truncated_normal(width, hidden, 0.02, init, device),
                Linear::truncated_normal(hidden, width, 0.02, init, device),
            ),
            BlockInit::ClipsVision => {
                let mut c_proj = Linear::normal(hidden, width, 0.0, init, device);
                // Variance 0.3072 over the outputs; cutting the tails takes 0.8796 of the deviation.
                let std = (0.3072 / w).sqrt() / 0.879_625_66;
                c_proj.weight = init.cut_normal([width, hidden], std, device);
                (
                    Linear::normal(width, 3 * width, 0.02, init, device),
                    Linear::normal(width, width, 0.02, init, device),
                    Linear::normal(width, hidden, 0.02, init, device),
                    c_proj,
                )
            }
            BlockInit::ClipsText => {
                let (std, proj_std) = (w.powf(-0.5), (w * 24.0).powf(-0.5));
                (
                    Linear::normal(width, 3 * width, std, init, device),
                    Linear::normal(width, width, proj_std, init, device),
                    Linear::normal(width, hidden, (2.0 * w).powf(-0.5), init, device),
                    Linear::normal(hidden, width, proj_std, init, device),
                )
            }
        };
        let norm = |init: &Init| LayerNorm::new(width, self.norm_eps, init, device);
        let layer_scale = |init: &Init| {
            self.layer_scale.map(|value| LayerScale {
                gamma: init.constant([width], value, device),
            })
        };
        Block {
            ln_1: norm(init),
            attn: Attention::new(
                in_proj,
                out_proj,
                self.heads,
                self.qk_norm.then_some(self.norm_eps),
                init,
                device,
            ),
            ls_1: layer_scale(init),
            ln_2: norm(init),
            mlp: Mlp {
                c_fc,
                c_proj,
                activation: self.activation,
            },
            ls_2: layer_scale(init),
        }
    }
}

/// Pre-norm residual block: attention, then MLP.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// Norm before attention.
    pub ln_1: LayerNorm<B>,
    /// Self-attention.
    pub attn: Attention<B>,
    /// Gain of the attention branch.
    pub ls_1: Option<LayerScale<B>>,
    /// Norm before the MLP.
    pub ln_2: LayerNorm<B>,
    /// MLP.
    pub mlp: Mlp<B>,
    /// Gain of the MLP branch.
    pub ls_2: Option<LayerScale<B>>,
}

impl<B: Backend> Block<B> {
    /// # Shapes
    ///
    /// - x, output: `[batch, seq, width]`
    /// - bias: `[1 or batch, 1, seq, seq]` f32, added to the attention scores
    pub fn forward(&self, x: Tensor<B, 3>, bias: Option<Tensor<B, 4>>) -> Tensor<B, 3> {
        let normed = self.ln_1.forward(x.clone());
        let x = match &self.ls_1 {
            None => self.attn.forward_beside(normed, bias, x),
            Some(scale) => x + scale.forward(self.attn.forward(normed, bias)),
        };
        let normed = self.ln_2.forward(x.clone());
        match &self.ls_2 {
            None => self.mlp.forward_beside(normed, x),
            Some(scale) => x + scale.forward(self.mlp.forward(normed)),
        }
    }
}

/// Learned gain per channel on a residual branch (Touvron et al., 2021).
#[derive(Module, Debug)]
pub struct LayerScale<B: Backend> {
    /// `[width]`.
    pub gamma: Param<Tensor<B, 1>>,
}

impl<B: Backend> LayerScale<B> {
    /// # Shapes
    ///
    /// - x, output: `[batch, seq, width]`
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let gamma = self.gamma.val().cast(x.dtype()).unsqueeze();
        x * gamma
    }
}

/// A stack of equal blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformerConfig {
    /// Number of blocks.
    pub layers: usize,
    /// Their shape.
    pub block: BlockConfig,
    /// Whether a position sees only itself and earlier ones.
    pub causal: bool,
}

impl TransformerConfig {
    /// A stack with initial weights.
    pub fn init<B: Backend>(
        &self,
        how: BlockInit,
        init: &mut Init,
        device: &Device<B>,
    ) -> Transformer<B> {
        let resblocks = (0..self.layers)
            .map(|_| self.block.init(how, init, device))
            .collect();
        Transformer {
            resblocks,
            causal: self.causal,
        }
    }
}

/// The residual blocks of a tower.
#[derive(Module, Debug)]
pub struct Transformer<B: Backend> {
    /// In order of application.
    pub resblocks: Vec<Block<B>>,
    /// Whether a position sees only itself and earlier ones.
    pub causal: bool,
}

impl<B: Backend> Transformer<B> {
    /// What [`Block::forward`] adds to the attention scores of a sequence of this length.
    pub fn mask(&self, seq: usize, device: &Device<B>) -> Option<Tensor<B, 4>> {
        self.causal.then(|| causal_mask(seq, device))
    }

    /// All blocks in turn.
    ///
    /// # Shapes
    ///
    /// - x, output: `[batch, seq, width]`
    pub fn forward(&self, x: Tensor<B, 3>, mask: Option<Tensor<B, 4>>) -> Tensor<B, 3> {
        self.resblocks
            .iter()
            .fold(x, |x, block| block.forward(x, mask.clone()))
    }

    /// The output of every block, for probing and for finding the first block that differs from a reference.
    ///
    /// # Shapes
    ///
    /// - x, each output: `[batch, seq, width]`
    pub fn forward_all(&self, x: Tensor<B, 3>, mask: Option<Tensor<B, 4>>) -> Vec<Tensor<B, 3>> {
        let mut outputs: Vec<Tensor<B, 3>> = Vec::with_capacity(self.resblocks.len());
        for block in &self.resblocks {
            let x = outputs.last().unwrap_or(&x).clone();
            outputs.push(block.forward(x, mask.clone()));
        }
        outputs
    }
}

/// What hides a key is added to its score: -1e9, finite, so that arithmetic on the mask never makes a NaN.
pub const MASKED: f32 = -1e9;

fn causal_mask<B: Backend>(seq: usize, device: &Device<B>) -> Tensor<B, 4> {
    let mut rows = vec![0.0; seq * seq];
    for (query, row) in rows.chunks_exact_mut(seq.max(1)).enumerate() {
        row[query + 1..].fill(MASKED);
    }
    Tensor::from_data(TensorData::new(rows, [1, 1, seq, seq]), device)
}
