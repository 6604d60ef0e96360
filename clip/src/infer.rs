//! What the shapes of a checkpoint say about its architecture.

use crate::checkpoint::StateDict;
use crate::config::ModelConfig;
use crate::vision::{VisionPool, VisionTowerConfig};
use burn::tensor::DType;
use std::collections::BTreeSet;

/// The presets whose shapes fit a checkpoint under our names. The activation cannot be seen in the weights.
pub(crate) fn fitting_presets(dict: &StateDict) -> Vec<&'static str> {
    let Some(seen) = Seen::of(dict) else {
        return Vec::new();
    };
    ModelConfig::preset_names()
        .filter(|name| {
            ModelConfig::preset(name).is_ok_and(|config| Seen::expected(&config) == seen)
        })
        .collect()
}

#[derive(Debug, PartialEq)]
struct Seen {
    tower: Tower,
    width: usize,
    patch_size: usize,
    /// Rows of patches; the pixels beyond the last whole patch cannot be seen.
    grid: usize,
    layers: usize,
    patch_bias: bool,
    ln_pre: bool,
    /// Width of a head, which only the norm of its queries shows.
    qk_norm: Option<usize>,
    text_width: usize,
    text_layers: usize,
    context_length: usize,
    vocab_size: usize,
}

#[derive(Debug, PartialEq)]
enum Tower {
    Vit,
    SigLip,
    Eva02,
    /// Blocks of each stage.
    ResNet([usize; 4]),
}

impl Seen {
    fn of(dict: &StateDict) -> Option<Self> {
        let shape = |name: &str| dict.get(name).map(|tensor| tensor.shape().to_vec());
        let blocks = |prefix: &str| {
            let numbers: BTreeSet<_> = dict
                .names()
                .filter_map(|name| name.strip_prefix(prefix)?.split('.').next())
                .collect();
            numbers.len()
        };
        let has = |name: &str| dict.get(name).is_some();
        let conv = shape("visual.conv1.weight")?;
        let pool = shape("visual.attnpool.positional_embedding");
        let positions = shape("visual.positional_embedding").or(pool.clone())?;
        let positions = *positions.first()?;
        let prefix = usize::from(has("visual.class_embedding") || pool.is_some());
        let norm = shape("visual.transformer.resblocks.0.attn.ln_q.weight");
        let tokens = shape("text.token_embedding.weight")?;
        let text_positions = *shape("text.positional_embedding")?.first()?;
        Some(Self {
            tower: if pool.is_some() {
                Tower::ResNet([1, 2, 3, 4].map(|stage| blocks(&format!("visual.layer{stage}."))))
            } else if has("visual.attn_pool.latent") {
                Tower::SigLip
            } else if has("visual.transformer.resblocks.0.attn.q_proj.weight") {
                Tower::Eva02
            } else {
                Tower::Vit
            },
            width: conv.first().copied()?,
            patch_size: conv.last().copied()?,
            grid: positions.checked_sub(prefix)?.isqrt(),
            layers: blocks("visual.transformer.resblocks."),
            patch_bias: has("visual.conv1.bias"),
            ln_pre: has("visual.ln_pre.weight"),
            qk_norm: norm.and_then(|shape| shape.first().copied()),
            text_width: tokens.last().copied()?,
            text_layers: blocks("text.transformer.resblocks."),
            context_length: text_positions.checked_sub(usize::from(has("text.cls_emb")))?,
            vocab_size: tokens.first().copied()?,
        })
    }

    fn expected(config: &ModelConfig) -> Self {
        let text = &config.text_cfg;
        let vision = match config.vision(DType::F32) {
            VisionTowerConfig::Vit(vit) => {
                let block = vit.transformer.block;
                Self {
                    tower: match vit.pool {
                        VisionPool::Map => Tower::SigLip,
                        VisionPool::Tok | VisionPool::Avg => Tower::Vit,
                    },
                    grid: vit.grid()[0],
                    width: block.width,
                    patch_size: vit.patch_size,
                    layers: vit.transformer.layers,
                    patch_bias: vit.patch_bias,
                    ln_pre: vit.ln_pre,
                    qk_norm: block.qk_norm.then_some(block.width / block.heads),
                    ..Self::no_tower()
                }
            }
            VisionTowerConfig::Eva02(eva) => Self {
                tower: Tower::Eva02,
                grid: eva.grid()[0],
                width: eva.width,
                patch_size: eva.patch_size,
                layers: eva.layers,
                patch_bias: true,
                ..Self::no_tower()
            },
            // The width that is seen is that of the first convolution.
            VisionTowerConfig::ResNet(resnet) => Self {
                tower: Tower::ResNet(resnet.stages),
                grid: resnet.grid(),
                width: resnet.width / 2,
                patch_size: 3,
                ..Self::no_tower()
            },
        };
        Self {
            text_width: text.width,
            text_layers: text.layers,
            context_length: text.context_length,
            vocab_size: text.vocab_size,
            ..vision
        }
    }

    fn no_tower() -> Self {
        Self {
            tower: Tower::Vit,
            width: 0,
            patch_size: 0,
            grid: 0,
            layers: 0,
            patch_bias: false,
            ln_pre: false,
            qk_norm: None,
            text_width: 0,
            text_layers: 0,
            context_length: 0,
            vocab_size: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{HostTensor, ParamPath};
    use crate::nn::init::Init;
    use crate::precision::Precision;
    use burn::module::{ModuleVisitor, Param};
    use burn::prelude::*;
    use burn_flex::Flex;

    /// Tensors of these shapes, whose values nobody asks for.
    fn shapes(shapes: &[(&str, &[usize])]) -> StateDict {
        let tensor = |shape: &[usize]| HostTensor::deferred(shape, || unreachable!());
        shapes
            .iter()
            .map(|(name, shape)| (name.to_string(), tensor(shape)))
            .collect()
    }

    fn vit_16(width: usize) -> StateDict {
        let mut dict = shapes(&[
            ("visual.conv1.weight", &[width, 3, 16, 16]),
            ("visual.class_embedding", &[width]),
            ("visual.positional_embedding", &[197, width]),
            ("visual.ln_pre.weight", &[width]),
            ("text.token_embedding.weight", &[49408, 512]),
            ("text.positional_embedding", &[77, 512]),
        ]);
        for tower in ["visual", "text"] {
            for block in 0..12 {
                let name = format!("{tower}.transformer.resblocks.{block}.ln_1.weight");
                dict.insert(name, HostTensor::from_values(vec![1.0], [1]));
            }
        }
        dict
    }

    fn laclip(width: usize, head: usize) -> StateDict {
        let mut dict = vit_16(width);
        dict.remove("visual.ln_pre.weight");
        dict.insert(
            "visual.conv1.bias",
            HostTensor::from_values(vec![0.0; width], [width]),
        );
        let name = "visual.transformer.resblocks.0.attn.ln_q.weight";
        dict.insert(name, HostTensor::from_values(vec![1.0; head], [head]));
        dict
    }

    #[test]
    fn laclips_models_are_told_by_their_shapes() {
        assert_eq!(fitting_presets(&laclip(768, 64)), ["CLIP_VITB16"]);
        assert_eq!(fitting_presets(&laclip(384, 32)), ["CLIP_VITS16"]);
        let six_heads = laclip(384, 64);
        assert_eq!(fitting_presets(&six_heads), [""; 0]);
        let mut slip = laclip(768, 64);
        slip.remove("visual.transformer.resblocks.0.attn.ln_q.weight");
        assert_eq!(fitting_presets(&slip), [""; 0]);
    }

    #[test]
    fn an_activation_cannot_be_told() {
        let expected = ["ViT-B-16-quickgelu", "ViT-B-16"];
        assert_eq!(fitting_presets(&vit_16(768)), expected);
    }

    /// The parameters of a preset, which nobody reads.
    fn of_preset(name: &str) -> StateDict {
        let config = ModelConfig::preset(name).unwrap();
        let model = config.build::<Flex>(Init::Zeros, Precision::F32, &Default::default());
        struct Shapes(ParamPath, Vec<(String, Vec<usize>)>);
        impl ModuleVisitor<Flex> for Shapes {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.0.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.0.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
                self.1.push((self.0.join(), param.lazy_shape().to_vec()));
            }
        }
        let mut found = Shapes(ParamPath::default(), Vec::new());
        model.visit(&mut found);
        let borrowed: Vec<_> = found
            .1
            .iter()
            .map(|(n, s)| (n.as_str(), s.as_slice()))
            .collect();
        shapes(&borrowed)
    }

    #[test]
    fn models_of_one_size_are_told_by_vocabulary_context_first_norm_and_stages() {
        for (name, expected) in [
            ("ViT-L-14", &["ViT-L-14-quickgelu", "ViT-L-14"][..]),
            ("ViT-L-14-CLIPS-224", &["ViT-L-14-CLIPS-224"]),
            ("ViT-L-14-CLIPA", &["ViT-L-14-CLIPA"]),
            ("EVA02-L-14", &["EVA02-L-14"]),
            ("ViT-B-16-SigLIP", &["ViT-B-16-SigLIP"]),
            ("ViT-B-16-SigLIP2", &["ViT-B-16-SigLIP2"]),
            ("RN50", &["RN50-quickgelu", "RN50"]),
            ("RN101", &["RN101-quickgelu", "RN101"]),
            ("RN50x64", &["RN50x64-quickgelu", "RN50x64"]),
        ] {
            assert_eq!(fitting_presets(&of_preset(name)), expected, "{name}");
        }
    }
}
