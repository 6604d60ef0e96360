//! What a configuration means for the towers.

use super::timm::{TimmFamily, TimmModel};
use super::{
    ActivationArguments, ModelConfig, NormArguments, PositionKind, ProjectionType, TextPoolType,
    VisionPoolType,
};
use crate::nn::{Activation, BlockConfig, TowerInit, TransformerConfig};
use crate::text::{TextPool, TextProjectionKind, TextTransformerConfig};
use crate::vision::{Eva02Config, VisionPool, VisionTowerConfig, VitConfig};
use burn::tensor::DType;

impl ModelConfig {
    /// The vision tower that this configuration describes.
    pub fn vision(&self, compute: DType) -> VisionTowerConfig {
        if let Some(stages) = self.vision_cfg.stages() {
            return VisionTowerConfig::ResNet(self.resnet(stages, compute));
        }
        match self.vision_cfg.timm() {
            None => VisionTowerConfig::Vit(self.vit(compute)),
            Some(timm) => match timm.family {
                TimmFamily::SigLip => VisionTowerConfig::Vit(self.siglip(&timm, compute)),
                TimmFamily::Eva02 => VisionTowerConfig::Eva02(self.eva02(compute)),
            },
        }
    }

    fn vit(&self, compute: DType) -> VitConfig {
        let cfg = &self.vision_cfg;
        let family = match cfg.patch_bias {
            true => TowerInit::Timm,
            false => TowerInit::OpenClip,
        };
        VitConfig {
            image_size: cfg.image_size.sides(),
            patch_size: cfg.patch_size,
            patch_bias: cfg.patch_bias,
            class_token: true,
            transformer: TransformerConfig {
                layers: cfg.blocks(),
                block: BlockConfig {
                    width: cfg.width,
                    heads: cfg.width / cfg.head_width,
                    hidden: hidden(cfg.width, cfg.mlp_ratio),
                    activation: self.activation(cfg.act, &cfg.act_kwargs),
                    norm_eps: norm_eps(&cfg.norm_kwargs),
                    qk_norm: cfg.qk_norm,
                    layer_scale: cfg.ls_init_value,
                },
                causal: false,
            },
            embed_dim: self.embed_dim,
            ln_pre: !cfg.no_ln_pre,
            sin_cos_positions: cfg.pos_embed_type == PositionKind::SinCos2d,
            pool: match cfg.pool_type {
                VisionPoolType::Tok => VisionPool::Tok,
                VisionPoolType::Avg => VisionPool::Avg,
            },
            final_ln_after_pool: cfg.final_ln_after_pool,
            projection: true,
            init: cfg.init.unwrap_or(family),
            compute,
        }
    }

    /// timm's vision transformer without class token. open_clip's arguments of norms and activations do not reach it.
    fn siglip(&self, timm: &TimmModel, compute: DType) -> VitConfig {
        let vit = self.vit(compute);
        let block = BlockConfig {
            activation: timm.activation,
            norm_eps: TIMM_NORM_EPS,
            qk_norm: false,
            layer_scale: None,
            ..vit.transformer.block
        };
        VitConfig {
            patch_bias: true,
            class_token: false,
            transformer: TransformerConfig {
                block,
                ..vit.transformer
            },
            ln_pre: false,
            sin_cos_positions: false,
            pool: VisionPool::Map,
            final_ln_after_pool: false,
            projection: false,
            init: self.vision_cfg.init.unwrap_or(TowerInit::SigLip),
            ..vit
        }
    }

    fn eva02(&self, compute: DType) -> Eva02Config {
        let cfg = &self.vision_cfg;
        Eva02Config {
            image_size: cfg.image_size.sides(),
            patch_size: cfg.patch_size,
            layers: cfg.blocks(),
            width: cfg.width,
            heads: cfg.width / cfg.head_width,
            hidden: hidden(cfg.width, cfg.mlp_ratio),
            rope_reference: EVA_GRID,
            norm_eps: TIMM_NORM_EPS,
            embed_dim: self.embed_dim,
            compute,
        }
    }

    /// The text tower that this configuration describes.
    pub fn text(&self, compute: DType) -> TextTransformerConfig {
        let cfg = &self.text_cfg;
        TextTransformerConfig {
            context_length: cfg.context_length,
            vocab_size: cfg.vocab_size,
            transformer: TransformerConfig {
                layers: cfg.layers,
                block: BlockConfig {
                    width: cfg.width,
                    heads: cfg.heads,
                    hidden: hidden(cfg.width, cfg.mlp_ratio),
                    activation: self.activation(cfg.act, &cfg.act_kwargs),
                    norm_eps: norm_eps(&cfg.norm_kwargs),
                    qk_norm: cfg.qk_norm,
                    layer_scale: cfg.ls_init_value,
                },
                causal: !cfg.no_causal_mask,
            },
            embed_dim: self.embed_dim,
            pool: match (cfg.pool_type, cfg.eos_id) {
                (TextPoolType::Eos, Some(id)) => TextPool::Eos(id),
                (TextPoolType::First, _) => TextPool::First,
                (TextPoolType::Last, _) => TextPool::Last,
                _ => TextPool::Argmax,
            },
            embed_cls: cfg.embed_cls,
            pad_id: cfg.pad_id,
            projection: match (cfg.proj_type, cfg.proj_bias) {
                (ProjectionType::None, _) => TextProjectionKind::None,
                (ProjectionType::Linear, true) => TextProjectionKind::Linear,
                (ProjectionType::Linear, false) => TextProjectionKind::Matrix,
            },
            init: cfg.init.unwrap_or(TowerInit::OpenClip),
            compute,
        }
    }

    fn activation(
        &self,
        act: Option<Activation>,
        kwargs: &Option<ActivationArguments>,
    ) -> Activation {
        match (act, kwargs) {
            (Some(act), _) => act,
            (None, _) if self.quick_gelu => Activation::QuickGelu,
            (None, Some(kwargs)) if kwargs.approximate == "tanh" => Activation::GeluTanh,
            _ => Activation::Gelu,
        }
    }
}

fn norm_eps(kwargs: &Option<NormArguments>) -> f64 {
    kwargs
        .as_ref()
        .map_or(DEFAULT_NORM_EPS, |kwargs| kwargs.eps)
}

/// PyTorch's default.
const DEFAULT_NORM_EPS: f64 = 1e-5;

/// timm's, of its vision transformers.
const TIMM_NORM_EPS: f64 = 1e-6;

/// Patches along a side of the images that EVA-02 was pre-trained with, 224 / 14.
const EVA_GRID: usize = 16;

/// Hidden width of an MLP: the product's integer part. A ratio made of two integers is their quotient rounded, and may
/// fall short of the integer that it stands for.
fn hidden(width: usize, ratio: f64) -> usize {
    (width as f64 * ratio * (1.0 + 1e-12)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giant_presets_have_the_reference_hidden_width() {
        for (name, expected) in [("ViT-g-14", 6144), ("ViT-bigG-14", 8192)] {
            match ModelConfig::preset(name).unwrap().vision(DType::F32) {
                VisionTowerConfig::Vit(vit) => assert_eq!(vit.transformer.block.hidden, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_ratio_of_two_integers_gives_back_the_hidden_width() {
        for width in 1..2000 {
            for hidden in [width, width + 1, 1920, 4304, 2730, 4 * width] {
                assert_eq!(super::hidden(width, hidden as f64 / width as f64), hidden);
            }
        }
        assert_eq!(super::hidden(1152, 3.7362), 4304);
        assert_eq!(super::hidden(1024, 4.0 * 2.0 / 3.0), 2730);
    }
}
