//! CLIP's ResNets in open_clip's schema: a list of four numbers as `layers`, and fields that mean something else or nothing.

use super::{Layers, ModelConfig, VisionConfig};
use crate::error::{Error, Result};
use crate::vision::{REDUCTION, ResNetConfig};
use burn::tensor::DType;
use serde_json::{Map, Value};

/// Refuses a `layers` that is neither a number nor four of them.
pub(super) fn check_layers(fields: &Map<String, Value>) -> Result<()> {
    match fields.get("layers") {
        Some(layers @ Value::Array(stages))
            if stages.len() != 4 || stages.iter().any(|stage| stage.as_u64().is_none()) =>
        {
            Err(Error::Config(format!(
                "`vision_cfg.layers` is {layers}; it must be a number for a vision transformer, or four for a ResNet"
            )))
        }
        _ => Ok(()),
    }
}

impl VisionConfig {
    /// The bottlenecks of each stage, where the tower is a ResNet. A timm name decides alone, as in open_clip.
    pub(crate) fn stages(&self) -> Option<[usize; 4]> {
        match self.layers {
            Layers::Stages(stages) if self.timm_model_name.is_none() => Some(stages),
            _ => None,
        }
    }

    /// The blocks of a vision transformer.
    pub(super) fn blocks(&self) -> usize {
        match self.layers {
            Layers::Blocks(blocks) => blocks,
            Layers::Stages(stages) => stages.iter().sum(), // read from JSON, a timm name has put its number here
        }
    }

    /// What makes a ResNet impossible, found before a tensor is made.
    pub(super) fn check_resnet(&self, stages: [usize; 4]) -> Result<()> {
        let refuse = |what: String| Err(Error::Config(what));
        if !stages.iter().all(|blocks| (1..=1_024).contains(blocks)) {
            return refuse(format!(
                "`vision_cfg.layers` is {stages:?}; each of a ResNet's stages must have from 1 to 1024 blocks"
            ));
        }
        let [height, width] = self.image_size.sides();
        if height != width || !height.is_multiple_of(REDUCTION) {
            return refuse(format!(
                "`vision_cfg.image_size` is {height} × {width}; a ResNet takes squares of a multiple of {REDUCTION} pixels"
            ));
        }
        if !self.width.is_multiple_of(2) || self.width > 2_048 {
            return refuse(format!(
                "`vision_cfg.width` is {}; a ResNet's must be even, as its stem begins with half of it, and at most 2048",
                self.width
            ));
        }
        if !(self.width * REDUCTION).is_multiple_of(self.head_width) {
            return refuse(format!(
                "the channels of a ResNet's last stage, 32 times `vision_cfg.width` {}, are not a multiple of \
                 `vision_cfg.head_width` {}",
                self.width, self.head_width
            ));
        }
        for (field, set) in [
            ("act", self.act.is_some()),
            ("patch_bias", self.patch_bias),
            ("init", self.init.is_some()),
        ] {
            if set {
                return refuse(format!(
                    "`vision_cfg.{field}` means nothing for a ResNet: remove it"
                ));
            }
        }
        Ok(())
    }
}

impl ModelConfig {
    /// The activation is always ReLU; `quick_gelu` is for the text tower. Other fields of vision transformers do not
    /// reach a ResNet in open_clip either.
    pub(super) fn resnet(&self, stages: [usize; 4], compute: DType) -> ResNetConfig {
        let cfg = &self.vision_cfg;
        ResNetConfig {
            image_size: cfg.image_size.sides()[0],
            stages,
            width: cfg.width,
            heads: cfg.width * REDUCTION / cfg.head_width,
            embed_dim: self.embed_dim,
            compute,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(field: &str, value: Value) -> String {
        let mut json = json!({
            "embed_dim": 8, "text_cfg": {},
            "vision_cfg": {"layers": [1, 2, 1, 1], "width": 4, "head_width": 16, "image_size": 64},
        });
        assert!(ModelConfig::from_json(&json).is_ok());
        json["vision_cfg"][field] = value;
        ModelConfig::from_json(&json).unwrap_err().to_string()
    }

    #[test]
    fn an_impossible_resnet_is_refused_with_what_is_wrong() {
        for (field, value, part) in [
            ("layers", json!([1, 2, 1]), "[1,2,1]"),
            ("layers", json!([1, 2, 1, "one"]), "four for a ResNet"),
            ("layers", json!([1, 0, 1, 1]), "[1, 0, 1, 1]"),
            ("width", json!(5), "even"),
            ("head_width", json!(24), "24"),
            ("image_size", json!(80), "80 × 80"),
            ("image_size", json!([64, 96]), "64 × 96"),
            ("patch_bias", json!(true), "patch_bias"),
            ("init", json!("timm"), "vision_cfg.init"),
        ] {
            let message = refusal(field, value);
            assert!(message.contains(part), "{message}");
        }
    }
}
