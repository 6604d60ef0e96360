//! What the shapes of a checkpoint say about its architecture.

use crate::checkpoint::{StateDict, canonical};
use crate::config::ModelConfig;
use std::collections::BTreeSet;
use std::path::Path;

impl ModelConfig {
    /// The presets whose shapes fit an open_clip or OpenAI checkpoint, by name, joined by "or"; the activation
    /// cannot be seen in the weights.
    pub fn infer(dict: &StateDict) -> Option<String> {
        let (_, dict) = canonical(dict.clone(), Path::new("")).ok()?;
        let shape = |name: &str| dict.get(name).map(|tensor| tensor.shape().to_vec());
        let blocks = |prefix: &str| {
            let numbers: BTreeSet<_> = dict
                .names()
                .filter_map(|name| name.strip_prefix(prefix)?.split('.').next())
                .collect();
            numbers.len()
        };
        let conv = shape("visual.conv1.weight")?;
        let positions = shape("visual.positional_embedding")?;
        let grid = positions.first()?.checked_sub(1)?.isqrt();
        let seen = (
            conv.first().copied()?,
            conv.last().copied()?,
            grid * conv.last()?,
            blocks("visual.transformer.resblocks."),
            shape("text.token_embedding.weight")?.last().copied()?,
            blocks("text.transformer.resblocks."),
        );
        let fitting: Vec<_> = Self::preset_names()
            .filter(|name| {
                Self::preset(name).is_ok_and(|config| {
                    let (vision, text) = (&config.vision_cfg, &config.text_cfg);
                    let [side, _] = vision.image_size.sides();
                    seen == (
                        vision.width,
                        vision.patch_size,
                        side,
                        vision.layers,
                        text.width,
                        text.layers,
                    )
                })
            })
            .collect();
        (!fitting.is_empty()).then(|| fitting.join(" or "))
    }
}
