//! Architectures by name: JSON files that lie in `src/presets`.

use super::ModelConfig;
use crate::error::{Error, Result};
use serde_json::Value;

impl ModelConfig {
    /// A named architecture; see [`ModelConfig::preset_names`].
    ///
    /// # Errors
    ///
    /// An unknown name is refused with the list of those that exist.
    pub fn preset(name: &str) -> Result<Self> {
        Self::from_json(&Self::preset_json(name)?)
    }

    /// What the file of a preset says: a `model_cfg`, or one with its `preprocess_cfg`.
    pub(crate) fn preset_json(name: &str) -> Result<Value> {
        let (_, text) = presets()
            .find(|(preset, _)| *preset == name)
            .ok_or_else(|| {
                let names: Vec<_> = Self::preset_names().collect();
                Error::Config(format!(
                    "no preset is called `{name}`; there are {}",
                    names.join(", ")
                ))
            })?;
        serde_json::from_str(text).map_err(|error| Error::Config(error.to_string()))
    }

    /// Names that [`ModelConfig::preset`] knows.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        presets().map(|(name, _)| *name)
    }
}

fn presets() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    PRESETS.iter().chain(OPEN_CLIP)
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../presets/", $name, ".json")))),*]
    };
}

/// Ours, LaCLIP's and CLIPS's.
const PRESETS: &[(&str, &str)] = presets![
    "tiny",
    "scenes",
    "scenes-S-16",
    "scenes-clips",
    "CLIP_VITS16",
    "CLIP_VITB16",
    "CLIP_VITL16",
    "ViT-L-14-CLIPS-224",
    "ViT-L-14-CLIPS-336",
    "ViT-H-14-CLIPS-224",
    // The paper's towers for ablations, which were never released.
    "ViT-S-16-CLIPS-224",
    "ViT-B-16-CLIPS-224",
    "ViT-L-16-CLIPS-224",
];

/// open_clip's, under its names.
const OPEN_CLIP: &[(&str, &str)] = include!("../presets/open_clip.rs");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Clip;
    use crate::nn::Activation;
    use crate::nn::init::Init;
    use crate::precision::Precision;
    use crate::vision::VisionTowerConfig;
    use burn::module::{ModuleVisitor, Param};
    use burn::prelude::*;
    use burn::tensor::DType;
    use burn_flex::Flex;
    use serde_json::{Map, json};

    /// Tensors and values, counted without making them.
    fn size(model: &Clip<Flex>) -> (u64, u64) {
        #[derive(Default)]
        struct Count(u64, u64);
        impl ModuleVisitor<Flex> for Count {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
                self.0 += 1;
                self.1 += param.lazy_shape().num_elements() as u64;
            }
        }
        let mut count = Count::default();
        model.visit(&mut count);
        (count.0, count.1)
    }

    fn activations(config: &ModelConfig) -> [Activation; 2] {
        let vision = match config.vision(DType::F32) {
            VisionTowerConfig::Vit(vit) => vit.transformer.block.activation,
            // A gated MLP has SiLU, whatever is asked for.
            VisionTowerConfig::Eva02(_) => Activation::Gelu,
            // A ResNet has ReLU.
            VisionTowerConfig::ResNet(_) => Activation::Gelu,
        };
        [vision, config.text(DType::F32).transformer.block.activation]
    }

    #[test]
    fn every_preset_of_open_clip_is_what_open_clip_builds() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/open_clip_models.json"
        );
        let models: Map<String, Value> =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let names: Vec<&str> = OPEN_CLIP.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, models.keys().collect::<Vec<_>>());
        assert_eq!(names.len(), 84);
        for (name, expected) in models {
            let config = ModelConfig::preset(&name).unwrap();
            let mut theirs = ModelConfig::from_json(&expected["config"]).unwrap();
            theirs.init_logit_scale = config.init_logit_scale; // SigLIP's is set by its training
            assert_eq!(config, theirs, "{name}");
            let model = config.build::<Flex>(Init::Zeros, Precision::F32, &Default::default());
            let (tensors, parameters) = size(&model);
            assert_eq!(json!(tensors), expected["tensors"], "tensors of {name}");
            assert_eq!(
                json!(parameters),
                expected["parameters"],
                "parameters of {name}"
            );
            let [vision, text] = activations(&config).map(|act| json!(act));
            if expected["vision"] != "silu" && expected["vision"] != "relu" {
                assert_eq!(vision, expected["vision"], "activation of {name}");
            }
            assert_eq!(text, expected["text"], "activation of {name}'s text tower");
        }
    }

    #[test]
    fn siglip_starts_with_the_papers_scale_and_bias() {
        let config = ModelConfig::preset("ViT-B-16-SigLIP").unwrap();
        assert_eq!(
            (config.init_logit_scale, config.init_logit_bias),
            (10f64.ln(), Some(-10.0))
        );
    }

    #[test]
    fn presets_of_clips_have_the_released_size() {
        for (name, tensors, parameters) in [
            ("ViT-L-14-CLIPS-224", 444, 414_247_425),
            ("ViT-L-14-CLIPS-336", 444, 414_575_105),
            ("ViT-H-14-CLIPS-224", 684, 968_284_161),
        ] {
            let config = ModelConfig::preset(name).unwrap();
            let model = config.build::<Flex>(Init::Zeros, Precision::F32, &Default::default());
            assert_eq!(size(&model), (tensors, parameters), "{name}");
        }
    }

    /// Parameters of OpenVision's variants S, B and L, images and texts: 21.8 + 33.8, 86.2 + 54.5 and 304.1 + 110.3 million.
    #[test]
    fn presets_of_the_ablations_of_clips_have_their_size() {
        for (name, tensors, millions) in [
            ("ViT-S-16-CLIPS-224", 300, 55.6),
            ("ViT-B-16-CLIPS-224", 300, 140.7),
            ("ViT-L-16-CLIPS-224", 444, 414.4),
        ] {
            let config = ModelConfig::preset(name).unwrap();
            let model = config.build::<Flex>(Init::Zeros, Precision::F32, &Default::default());
            let (found, parameters) = size(&model);
            assert_eq!(found, tensors, "{name}");
            assert!(
                (parameters as f64 / 1e6 - millions).abs() < 0.11,
                "{name} {parameters}"
            );
        }
    }
}
