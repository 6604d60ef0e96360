//! What makes a configuration impossible, found before a tensor is made.

use super::timm::TimmFamily;
use super::{Layers, ModelConfig, PositionKind, ProjectionType, TextPoolType, VisionConfig};
use crate::error::{Error, Result};
use crate::nn::TowerInit;

impl ModelConfig {
    pub(crate) fn check(&self) -> Result<()> {
        let (vision, text) = (&self.vision_cfg, &self.text_cfg);
        // Far beyond any model: a larger number is a slip, and would end in a failed allocation.
        let [height, width] = vision.image_size.sides();
        let layers = match vision.layers {
            Layers::Blocks(layers) => layers,
            Layers::Stages(_) => 1, // checked where stages are
        };
        for (name, value, most) in [
            ("embed_dim", self.embed_dim, 65_536),
            ("vision_cfg.image_size", height, 16_384),
            ("vision_cfg.image_size", width, 16_384),
            ("vision_cfg.layers", layers, 1_024),
            ("vision_cfg.width", vision.width, 65_536),
            ("vision_cfg.head_width", vision.head_width, 65_536),
            ("vision_cfg.patch_size", vision.patch_size, 16_384),
            ("text_cfg.context_length", text.context_length, 8_192), // a mask of 256 MiB
            ("text_cfg.vocab_size", text.vocab_size, 1 << 24),
            ("text_cfg.width", text.width, 65_536),
            ("text_cfg.heads", text.heads, 65_536),
            ("text_cfg.layers", text.layers, 1_024),
        ] {
            if !(1..=most).contains(&value) {
                return Err(Error::Config(format!(
                    "`{name}` is {value}; it must be from 1 to {most}"
                )));
            }
        }
        for (section, width, ratio) in [
            ("vision_cfg", vision.width, vision.mlp_ratio),
            ("text_cfg", text.width, text.mlp_ratio),
        ] {
            if !(1.0..=65_536.0).contains(&(width as f64 * ratio)) {
                return Err(Error::Config(format!(
                    "`{section}.mlp_ratio` {ratio} gives no usable width of the MLP"
                )));
            }
        }
        // Each bound alone allows tables of terabytes.
        let positions = text.context_length * text.width;
        if positions > MAX_POSITIONS {
            return Err(Error::Config(format!(
                "`text_cfg.context_length` {} times `text_cfg.width` {} is beyond any table of positions",
                text.context_length, text.width
            )));
        }
        for (field, id) in [("pad_id", Some(text.pad_id)), ("eos_id", text.eos_id)] {
            if let Some(id) = id.filter(|id| i32::try_from(*id).is_err()) {
                return Err(Error::Config(format!(
                    "`text_cfg.{field}` {id} is the id of no token"
                )));
            }
        }
        for (section, norm) in [
            ("vision_cfg", &vision.norm_kwargs),
            ("text_cfg", &text.norm_kwargs),
        ] {
            if let Some(norm) = norm
                && !(0.0..1.0).contains(&norm.eps)
            {
                return Err(Error::Config(format!(
                    "`{section}.norm_kwargs.eps` is {}; it must be within [0, 1)",
                    norm.eps
                )));
            }
        }
        divides("text_cfg.heads", text.heads, "text_cfg.width", text.width)?;
        match vision.stages() {
            Some(stages) => vision.check_resnet(stages)?,
            None => vision.check_transformer(self.embed_dim)?,
        }
        if text.pool_type == TextPoolType::Eos && text.eos_id.is_none() {
            return Err(Error::Config(
                "`text_cfg.pool_type` is eos but `text_cfg.eos_id` is missing".into(),
            ));
        }
        if text.proj_type == ProjectionType::None && text.width != self.embed_dim {
            return Err(Error::Config(format!(
                "without a text projection `text_cfg.width` {} must equal `embed_dim` {}",
                text.width, self.embed_dim
            )));
        }
        if !(0.0..1.0).contains(&vision.patch_dropout) {
            return Err(Error::Config(format!(
                "`vision_cfg.patch_dropout` {} is not within [0, 1)",
                vision.patch_dropout
            )));
        }
        for (name, act) in [
            ("vision_cfg", &vision.act_kwargs),
            ("text_cfg", &text.act_kwargs),
        ] {
            if let Some(act) = act
                && !["none", "tanh"].contains(&act.approximate.as_str())
            {
                return Err(Error::Config(format!(
                    "`{name}.act_kwargs.approximate` is `{}`; known are none and tanh",
                    act.approximate
                )));
            }
        }
        Ok(())
    }
}

/// Patches of an image: 256 × 256.
const MAX_PATCHES: usize = 1 << 16;
/// Numbers in a table of positions, of which the largest model has nine million.
pub(crate) const MAX_POSITIONS: usize = 1 << 26;

impl VisionConfig {
    /// What makes a vision transformer impossible.
    fn check_transformer(&self, embed_dim: usize) -> Result<()> {
        divides(
            "vision_cfg.head_width",
            self.head_width,
            "vision_cfg.width",
            self.width,
        )?;
        for side in self.image_size.sides() {
            if side < self.patch_size {
                return Err(Error::Config(format!(
                    "`vision_cfg.image_size` {side} is smaller than `vision_cfg.patch_size` {}",
                    self.patch_size
                )));
            }
            // A convolution drops the remainder, and SigLIP's SO400M/14 at 384 pixels was trained so. Elsewhere a
            // remainder is a slip.
            if self.timm().is_none() {
                divides(
                    "vision_cfg.patch_size",
                    self.patch_size,
                    "vision_cfg.image_size",
                    side,
                )?;
            }
        }
        let [height, width] = self.image_size.sides();
        let patches = (height / self.patch_size) * (width / self.patch_size);
        if patches > MAX_PATCHES || patches * self.width > MAX_POSITIONS {
            return Err(Error::Config(format!(
                "`vision_cfg.image_size` {height} × {width} with `vision_cfg.patch_size` {} gives {patches} patches,                  beyond what a tower of width {} can attend to",
                self.patch_size, self.width
            )));
        }
        if self.pos_embed_type == PositionKind::SinCos2d
            && (height != width || !self.width.is_multiple_of(4))
        {
            return Err(Error::Config(
                "`vision_cfg.pos_embed_type` sin_cos_2d needs a square image and a width that is a multiple of 4".into(),
            ));
        }
        let eva = self.is_eva02();
        if self
            .init
            .is_some_and(|init| eva != (init == TowerInit::Eva02))
        {
            return Err(Error::Config(
                "`vision_cfg.init` eva02 is for EVA-02's towers, and they have no other".into(),
            ));
        }
        if let Some(timm) = self.timm() {
            if timm.family == TimmFamily::SigLip && self.width != embed_dim {
                return Err(Error::Config(format!(
                    "SigLIP's vision tower has no projection: its width {} must equal `embed_dim` {}",
                    self.width, embed_dim
                )));
            }
            if timm.family == TimmFamily::Eva02 && !self.head_width.is_multiple_of(4) {
                return Err(Error::Config(format!(
                    "rotary positions on a grid need heads of a multiple of 4 channels, not {}",
                    self.head_width
                )));
            }
        }
        Ok(())
    }
}

fn divides(part: &str, a: usize, whole: &str, b: usize) -> Result<()> {
    match b.is_multiple_of(a) {
        true => Ok(()),
        false => Err(Error::Config(format!(
            "`{whole}` {b} is not a multiple of `{part}` {a}"
        ))),
    }
}
