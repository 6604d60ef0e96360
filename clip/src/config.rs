//! The `model_cfg` JSON of open_clip: reading, writing, presets, and what it means for the towers.

use crate::error::{Error, Result};
use crate::nn::{Activation, BlockConfig, TransformerConfig};
use crate::text::{TextPool, TextProjectionKind, TextTransformerConfig};
use crate::vision::{VisionPool, VitConfig};
use burn::tensor::DType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Architecture of a model, in open_clip's schema.
///
/// Two fields of the towers are our own and absent from open_clip's files: `act` names a tower's activation where
/// the two towers differ, and `patch_bias` gives the patch projection a bias; LaCLIP's models need both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Dimension of the shared space.
    pub embed_dim: usize,
    /// QuickGELU in both towers in place of GELU.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quick_gelu: bool,
    /// Initial logarithm of the logit scale.
    #[serde(
        default = "default_logit_scale",
        skip_serializing_if = "is_default_logit_scale"
    )]
    pub init_logit_scale: f64,
    /// Initial logit bias; absent in models without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f64>,
    /// Whether the reference nests the text tower under `text.` in its state dict.
    #[serde(default, skip_serializing_if = "is_default")]
    pub custom_text: bool,
    /// Whether the logit scale is stored with shape `[1]` rather than `[]`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nonscalar_logit_scale: bool,
    /// Vision tower.
    pub vision_cfg: VisionConfig,
    /// Text tower and its tokenizer.
    pub text_cfg: TextConfig,
}

/// `vision_cfg` of the schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VisionConfig {
    /// Side of the square input in pixels, or height and width.
    pub image_size: ImageSize,
    /// Number of residual blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of an attention head.
    pub head_width: usize,
    /// Hidden width of the MLP over `width`.
    pub mlp_ratio: f64,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Initial value of LayerScale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ls_init_value: Option<f32>,
    /// Share of patches left out in training.
    #[serde(skip_serializing_if = "is_default")]
    pub patch_dropout: f64,
    /// Leaves out the norm before the blocks.
    #[serde(skip_serializing_if = "is_default")]
    pub no_ln_pre: bool,
    /// `learnable` or `sin_cos_2d`.
    #[serde(skip_serializing_if = "is_default")]
    pub pos_embed_type: PositionKind,
    /// Norm after pooling.
    #[serde(skip_serializing_if = "is_default")]
    pub final_ln_after_pool: bool,
    /// `tok` or `avg`.
    #[serde(skip_serializing_if = "is_default")]
    pub pool_type: VisionPoolType,
    /// Whether the reference also returns the patch tokens; ours always can.
    #[serde(skip_serializing_if = "is_default")]
    pub output_tokens: bool,
    /// Arguments of the activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act_kwargs: Option<ActivationArguments>,
    /// Arguments of the layer norms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_kwargs: Option<NormArguments>,
    /// Norm of queries and keys per head.
    #[serde(skip_serializing_if = "is_default")]
    pub qk_norm: bool,
    /// Activation of this tower alone (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Activation>,
    /// Bias of the patch projection (ours). The tower then also starts as LaCLIP's do.
    #[serde(skip_serializing_if = "is_default")]
    pub patch_bias: bool,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            image_size: ImageSize::Square(224),
            layers: 12,
            width: 768,
            head_width: 64,
            mlp_ratio: 4.0,
            patch_size: 16,
            ls_init_value: None,
            patch_dropout: 0.0,
            no_ln_pre: false,
            pos_embed_type: PositionKind::Learnable,
            final_ln_after_pool: false,
            pool_type: VisionPoolType::Tok,
            output_tokens: false,
            act_kwargs: None,
            norm_kwargs: None,
            qk_norm: false,
            act: None,
            patch_bias: false,
        }
    }
}

/// `text_cfg` of the schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// Longest text in tokens.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Name of the tokenizer on the hub; a `tokenizer.json` in the model directory takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hf_tokenizer_name: Option<String>,
    /// Variant of the tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_mode: Option<String>,
    /// Arguments of the tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_kwargs: Option<Map<String, Value>>,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Number of residual blocks.
    pub layers: usize,
    /// Hidden width of the MLP over `width`.
    #[serde(skip_serializing_if = "is_default_mlp_ratio")]
    pub mlp_ratio: f64,
    /// Initial value of LayerScale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ls_init_value: Option<f32>,
    /// Appends a learned class embedding.
    #[serde(skip_serializing_if = "is_default")]
    pub embed_cls: bool,
    /// Id that fills short texts.
    #[serde(skip_serializing_if = "is_default")]
    pub pad_id: i64,
    /// Id pooled by `eos`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_id: Option<i64>,
    /// Every position sees every other.
    #[serde(skip_serializing_if = "is_default")]
    pub no_causal_mask: bool,
    /// `argmax`, `eos`, `first` or `last`.
    #[serde(skip_serializing_if = "is_default")]
    pub pool_type: TextPoolType,
    /// `linear` or `none`.
    #[serde(skip_serializing_if = "is_default")]
    pub proj_type: ProjectionType,
    /// Bias of the projection.
    #[serde(skip_serializing_if = "is_default")]
    pub proj_bias: bool,
    /// Whether the reference also returns the tokens; ours always can.
    #[serde(skip_serializing_if = "is_default")]
    pub output_tokens: bool,
    /// Arguments of the activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act_kwargs: Option<ActivationArguments>,
    /// Arguments of the layer norms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_kwargs: Option<NormArguments>,
    /// Norm of queries and keys per head.
    #[serde(skip_serializing_if = "is_default")]
    pub qk_norm: bool,
    /// Activation of this tower alone (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Activation>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            context_length: 77,
            vocab_size: 49408,
            hf_tokenizer_name: None,
            tokenizer_mode: None,
            tokenizer_kwargs: None,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            ls_init_value: None,
            embed_cls: false,
            pad_id: 0,
            eos_id: None,
            no_causal_mask: false,
            pool_type: TextPoolType::Argmax,
            proj_type: ProjectionType::Linear,
            proj_bias: false,
            output_tokens: false,
            act_kwargs: None,
            norm_kwargs: None,
            qk_norm: false,
            act: None,
        }
    }
}

/// One side of a square, or height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageSize {
    /// Both sides.
    Square(usize),
    /// Height, then width.
    Sides([usize; 2]),
}

impl ImageSize {
    /// Height and width.
    pub fn sides(&self) -> [usize; 2] {
        match *self {
            Self::Square(side) => [side, side],
            Self::Sides(sides) => sides,
        }
    }
}

/// Where a vision tower's positions come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionKind {
    /// Trained.
    #[default]
    Learnable,
    /// Fixed sines and cosines.
    #[serde(rename = "sin_cos_2d")]
    SinCos2d,
}

/// `pool_type` of a vision tower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VisionPoolType {
    /// Class token.
    #[default]
    Tok,
    /// Mean of the patch tokens.
    Avg,
}

/// `pool_type` of a text tower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPoolType {
    /// First largest id.
    #[default]
    Argmax,
    /// First `eos_id`.
    Eos,
    /// First position.
    First,
    /// Last position.
    Last,
}

/// `proj_type` of a text tower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectionType {
    /// A matrix, or a linear layer with `proj_bias`.
    #[default]
    Linear,
    /// None.
    None,
}

/// `act_kwargs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationArguments {
    /// `none` or `tanh`.
    pub approximate: String,
}

/// `norm_kwargs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormArguments {
    /// Added to the variance.
    pub eps: f64,
}

/// Fields of the schema that we do not build, with the value at which they change nothing.
fn unsupported(section: &str) -> Vec<(&'static str, Value)> {
    match section {
        "vision_cfg" => vec![
            ("attentional_pool", json!(false)),
            ("attn_pooler_queries", json!(256)),
            ("attn_pooler_heads", json!(8)),
            ("image_seq_len", Value::Null),
            ("scaled_cosine_attn", json!(false)),
            ("scale_heads", json!(false)),
            ("scale_attn_inner", json!(false)),
            ("scale_attn", json!(false)),
            ("scale_fc", json!(false)),
            ("timm_model_name", Value::Null),
            ("timm_model_pretrained", json!(false)),
            ("timm_pool", json!("avg")),
            ("timm_proj", json!("linear")),
            ("timm_proj_bias", json!(false)),
            ("timm_drop", json!(0.0)),
            ("timm_drop_path", Value::Null),
            ("timm_model_kwargs", json!({})),
        ],
        "text_cfg" => vec![
            ("text_arch", json!("clip")),
            ("variable_text", json!(false)),
            ("final_ln_after_pool", json!(false)),
            ("tokenizer_type", Value::Null),
            ("tiktoken_name", Value::Null),
            ("bos_id", Value::Null),
            ("scaled_cosine_attn", json!(false)),
            ("scale_heads", json!(false)),
            ("scale_attn_inner", json!(false)),
            ("scale_attn", json!(false)),
            ("scale_fc", json!(false)),
            ("hf_model_name", Value::Null),
            ("hf_model_pretrained", json!(true)),
            ("hf_proj_type", json!("mlp")),
            ("hf_pooler_type", json!("mean_pooler")),
            ("hf_model_config", Value::Null),
        ],
        _ => vec![("multimodal_cfg", Value::Null), ("audio_cfg", Value::Null)],
    }
}

impl ModelConfig {
    /// Reads a `model_cfg`, or a file that wraps one as open_clip's hub configs do.
    ///
    /// # Errors
    ///
    /// Refuses JSON of another schema, and by name every field that asks for something we do not build.
    pub fn from_json(value: &Value) -> Result<Self> {
        let value = value.get("model_cfg").unwrap_or(value);
        let mut object = value.as_object().cloned().ok_or_else(|| {
            Error::Config(
                "expected a JSON object with `embed_dim`, `vision_cfg` and `text_cfg`".into(),
            )
        })?;
        drop_inert_fields("model_cfg", &mut object)?;
        for section in ["vision_cfg", "text_cfg"] {
            if let Some(Value::Object(fields)) = object.get_mut(section) {
                drop_inert_fields(section, fields)?;
            }
        }
        if let Some(Value::Array(_)) = object.get("vision_cfg").and_then(|cfg| cfg.get("layers")) {
            return Err(Error::Config(
                "`vision_cfg.layers` is a list: ResNet towers are not supported, only vision transformers".into(),
            ));
        }
        let config: Self = serde_json::from_value(Value::Object(object))
            .map_err(|error| Error::Config(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

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

    fn check(&self) -> Result<()> {
        let (vision, text) = (&self.vision_cfg, &self.text_cfg);
        // Far beyond any model: a larger number is a slip, and would end in a failed allocation.
        let [height, width] = vision.image_size.sides();
        for (name, value, most) in [
            ("embed_dim", self.embed_dim, 65_536),
            ("vision_cfg.image_size", height, 16_384),
            ("vision_cfg.image_size", width, 16_384),
            ("vision_cfg.layers", vision.layers, 1_024),
            ("vision_cfg.width", vision.width, 65_536),
            ("vision_cfg.head_width", vision.head_width, 65_536),
            ("vision_cfg.patch_size", vision.patch_size, 16_384),
            ("text_cfg.context_length", text.context_length, 1 << 20),
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
        let divides = |part: &str, a: usize, whole: &str, b: usize| {
            if b.is_multiple_of(a) {
                Ok(())
            } else {
                Err(Error::Config(format!(
                    "`{whole}` {b} is not a multiple of `{part}` {a}"
                )))
            }
        };
        divides(
            "vision_cfg.head_width",
            vision.head_width,
            "vision_cfg.width",
            vision.width,
        )?;
        divides("text_cfg.heads", text.heads, "text_cfg.width", text.width)?;
        for side in vision.image_size.sides() {
            if side < vision.patch_size {
                return Err(Error::Config(format!(
                    "`vision_cfg.image_size` {side} is smaller than `vision_cfg.patch_size` {}",
                    vision.patch_size
                )));
            }
            // The reference's convolution drops the remainder; ours does not guess where it would cut.
            divides(
                "vision_cfg.patch_size",
                vision.patch_size,
                "vision_cfg.image_size",
                side,
            )?;
        }
        let [height, width] = vision.image_size.sides();
        if vision.pos_embed_type == PositionKind::SinCos2d
            && (height != width || !vision.width.is_multiple_of(4))
        {
            return Err(Error::Config(
                "`vision_cfg.pos_embed_type` sin_cos_2d needs a square image and a width that is a multiple of 4".into(),
            ));
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

    /// The vision tower that this configuration describes.
    pub fn vision(&self, compute: DType) -> VitConfig {
        let cfg = &self.vision_cfg;
        VitConfig {
            image_size: cfg.image_size.sides(),
            patch_size: cfg.patch_size,
            patch_bias: cfg.patch_bias,
            transformer: TransformerConfig {
                layers: cfg.layers,
                block: BlockConfig {
                    width: cfg.width,
                    heads: cfg.width / cfg.head_width,
                    hidden: (cfg.width as f64 * cfg.mlp_ratio) as usize,
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
                    hidden: (cfg.width as f64 * cfg.mlp_ratio) as usize,
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

/// Removes nulls and fields at the value that changes nothing; refuses the others we do not build.
fn drop_inert_fields(section: &str, fields: &mut Map<String, Value>) -> Result<()> {
    fields.retain(|_, value| !value.is_null());
    for (name, inert) in unsupported(section) {
        if let Some(value) = fields.remove(name)
            && !same(&value, &inert)
        {
            return Err(Error::Config(format!(
                "`{section}.{name}` = {value} is not supported"
            )));
        }
    }
    // open_clip picks its custom block by itself where a feature asks for it.
    if let Some(value) = fields.remove("block_type")
        && value != json!("default")
        && value != json!("custom")
    {
        return Err(Error::Config(format!(
            "`{section}.block_type` = {value} is not supported"
        )));
    }
    Ok(())
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn norm_eps(kwargs: &Option<NormArguments>) -> f64 {
    kwargs
        .as_ref()
        .map_or(DEFAULT_NORM_EPS, |kwargs| kwargs.eps)
}

/// PyTorch's default.
const DEFAULT_NORM_EPS: f64 = 1e-5;

fn default_logit_scale() -> f64 {
    (1.0f64 / 0.07).ln()
}

fn is_default_logit_scale(value: &f64) -> bool {
    *value == default_logit_scale()
}

fn is_default_mlp_ratio(value: &f64) -> bool {
    *value == 4.0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("presets/", $name, ".json")))),*]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_reads_and_survives_a_round_trip() {
        for name in ModelConfig::preset_names() {
            let config = ModelConfig::preset(name).unwrap();
            let value = serde_json::to_value(&config).unwrap();
            assert_eq!(ModelConfig::from_json(&value).unwrap(), config, "{name}");
        }
    }

    #[test]
    fn a_feature_that_is_not_built_is_refused_by_name() {
        let mut value = serde_json::to_value(ModelConfig::preset("ViT-B-32").unwrap()).unwrap();
        value["vision_cfg"]["attentional_pool"] = json!(false);
        assert!(ModelConfig::from_json(&value).is_ok());
        value["vision_cfg"]["attentional_pool"] = json!(true);
        let message = ModelConfig::from_json(&value).unwrap_err().to_string();
        assert!(message.contains("vision_cfg.attentional_pool"), "{message}");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let mut value = serde_json::to_value(ModelConfig::preset("tiny").unwrap()).unwrap();
        value["text_cfg"]["contextlength"] = json!(32);
        let message = ModelConfig::from_json(&value).unwrap_err().to_string();
        assert!(message.contains("contextlength"), "{message}");
    }

    #[test]
    fn giant_presets_have_the_reference_hidden_width() {
        let vision = ModelConfig::preset("ViT-g-14").unwrap().vision(DType::F32);
        assert_eq!(vision.transformer.block.hidden, 6144);
        let vision = ModelConfig::preset("ViT-bigG-14")
            .unwrap()
            .vision(DType::F32);
        assert_eq!(vision.transformer.block.hidden, 8192);
    }
}
