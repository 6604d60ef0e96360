//! What the shapes of a checkpoint say about its architecture.

use crate::checkpoint::StateDict;
use crate::config::ModelConfig;
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
    width: usize,
    patch_size: usize,
    image_size: usize,
    layers: usize,
    patch_bias: bool,
    /// Width of a head, which only the norm of its queries shows.
    qk_norm: Option<usize>,
    text_width: usize,
    text_layers: usize,
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
        let conv = shape("visual.conv1.weight")?;
        let patch_size = conv.last().copied()?;
        let positions = shape("visual.positional_embedding")?;
        let grid = positions.first()?.checked_sub(1)?.isqrt();
        let norm = shape("visual.transformer.resblocks.0.attn.ln_q.weight");
        Some(Self {
            width: conv.first().copied()?,
            patch_size,
            image_size: grid * patch_size,
            layers: blocks("visual.transformer.resblocks."),
            patch_bias: dict.get("visual.conv1.bias").is_some(),
            qk_norm: norm.and_then(|shape| shape.first().copied()),
            text_width: shape("text.token_embedding.weight")?.last().copied()?,
            text_layers: blocks("text.transformer.resblocks."),
        })
    }

    fn expected(config: &ModelConfig) -> Self {
        let (vision, text) = (&config.vision_cfg, &config.text_cfg);
        let [image_size, _] = vision.image_size.sides();
        Self {
            width: vision.width,
            patch_size: vision.patch_size,
            image_size,
            layers: vision.layers,
            patch_bias: vision.patch_bias,
            qk_norm: vision.qk_norm.then_some(vision.head_width),
            text_width: text.width,
            text_layers: text.layers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{HostTensor, SharedBytes, StoredType};
    use std::sync::Arc;

    /// Tensors of these shapes that share one value.
    fn shapes(shapes: &[(&str, &[usize])]) -> StateDict {
        let bytes: SharedBytes = Arc::new(vec![0u8; 4]);
        let tensor = |shape: &[usize]| {
            let strides = Some(vec![0; shape.len()]);
            HostTensor::stored(bytes.clone(), StoredType::F32, 0, shape.to_vec(), strides).unwrap()
        };
        shapes
            .iter()
            .map(|(name, shape)| (name.to_string(), tensor(shape)))
            .collect()
    }

    fn vit_16(width: usize) -> StateDict {
        let mut dict = shapes(&[
            ("visual.conv1.weight", &[width, 3, 16, 16]),
            ("visual.positional_embedding", &[197, width]),
            ("text.token_embedding.weight", &[49408, 512]),
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
        let expected = ["ViT-B-16", "ViT-B-16-quickgelu"];
        assert_eq!(fitting_presets(&vit_16(768)), expected);
    }
}
