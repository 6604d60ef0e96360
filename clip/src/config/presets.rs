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
        let (_, text) = PRESETS
            .iter()
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
        PRESETS.iter().map(|(name, _)| *name)
    }
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../presets/", $name, ".json")))),*]
    };
}

const PRESETS: &[(&str, &str)] = presets![
    "tiny",
    "scenes",
    "scenes-S-16",
    "ViT-S-16",
    "ViT-B-32",
    "ViT-B-32-quickgelu",
    "ViT-B-16",
    "ViT-B-16-quickgelu",
    "ViT-L-14",
    "ViT-L-14-quickgelu",
    "ViT-L-14-336",
    "ViT-H-14",
    "ViT-g-14",
    "ViT-bigG-14",
    "CLIP_VITS16",
    "CLIP_VITB16",
    "CLIP_VITL16",
];
