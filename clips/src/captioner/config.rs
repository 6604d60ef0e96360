//! Shape of the captioner.

use super::Captioner;
use burn::prelude::*;
use clip::nn::init::Init;
use clip::nn::{Activation, BlockConfig, BlockInit, LayerNorm, Linear, TransformerConfig};
use clip::text::TokenEmbedding;
use serde::{Deserialize, Serialize};

/// What stands at the positions that predict tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// Learned vectors, the same for every image: all tokens are predicted in one pass, none from the ones before it. What
    /// CLIPS trains.
    #[default]
    LearnableQueries,
    /// The tokens before the predicted one, as in any language model (teacher forcing). Not in the paper; OpenVision 2 went
    /// this way.
    Autoregressive,
}

/// The `[method.captioner]` table: a decoder of width 384, 512, 768 and 1024 goes with towers S, B, L and H.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionerOptions {
    /// Dimension of its tokens.
    pub width: usize,
    /// Residual blocks.
    pub layers: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Tokens that are predicted at most, the end included.
    #[serde(default = "queries")]
    pub queries: usize,
    /// learnable-queries or autoregressive.
    #[serde(default)]
    pub decoder: Decoder,
}

fn queries() -> usize {
    128
}

/// Architecture of a [`Captioner`]; `captioner.json` in a model directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptionerConfig {
    /// What a recipe says about it.
    #[serde(flatten)]
    pub options: CaptionerOptions,
    /// Width of the vision tower.
    pub image_width: usize,
    /// Width of the text tower.
    pub text_width: usize,
    /// Rows of the text tower's token table, as many as the head has.
    pub vocab_size: usize,
}

impl CaptionerConfig {
    /// Says what cannot be built.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn check(&self) -> Result<(), String> {
        let CaptionerOptions {
            width,
            layers,
            heads,
            queries,
            ..
        } = self.options;
        for (field, value, most) in [
            ("width", width, 1 << 16),
            ("layers", layers, 1 << 10),
            ("heads", heads, 1 << 16),
            ("queries", queries, 1 << 14),
            ("image_width", self.image_width, 1 << 16),
            ("text_width", self.text_width, 1 << 16),
            ("vocab_size", self.vocab_size, 1 << 24),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!(
                    "captioner: {field} = {value} should be between 1 and {most}"
                ));
            }
        }
        if !width.is_multiple_of(heads) {
            return Err(format!(
                "captioner: heads = {heads} does not divide width = {width}"
            ));
        }
        Ok(())
    }

    /// A captioner with initial weights (OpenVision's; section 4.5 of its description).
    pub fn init<B: Backend>(&self, init: &mut Init, device: &Device<B>) -> Captioner<B> {
        let CaptionerOptions {
            width,
            layers,
            heads,
            queries,
            decoder,
        } = self.options;
        let bare = |inputs: usize, outputs: usize, init: &mut Init| Linear {
            weight: init.normal([outputs, inputs], (inputs as f64).powf(-0.5), device),
            bias: None,
        };
        let blocks = TransformerConfig {
            layers,
            block: BlockConfig {
                width,
                heads,
                hidden: 4 * width,
                activation: Activation::GeluTanh,
                norm_eps: EPS,
                qk_norm: false,
                layer_scale: None,
            },
            causal: false,
        };
        let learned = decoder == Decoder::LearnableQueries;
        Captioner {
            image_projection: bare(self.image_width, width, init),
            text_projection: bare(self.text_width, width, init),
            learnable_tokens: learned.then(|| init.normal([queries, width], 1.0, device)),
            token_embedding: (!learned).then(|| TokenEmbedding {
                weight: init.normal([self.vocab_size, width], 0.02, device),
            }),
            positional_embedding: (!learned).then(|| init.normal([queries, width], 0.01, device)),
            transformer: blocks.init(BlockInit::ClipsText, init, device),
            ln_final: LayerNorm::new(width, EPS, init, device),
            head: bare(width, self.vocab_size, init),
        }
    }
}

const EPS: f64 = 1e-6;
