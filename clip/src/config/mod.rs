//! The `model_cfg` JSON of open_clip: reading, writing, presets, and what it means for the towers.

mod check;
mod presets;
mod refusals;
mod resnet;
mod timm;
mod towers;

pub(crate) use check::MAX_POSITIONS;

use crate::error::{Error, Result};
use crate::nn::{Activation, TowerInit};
use crate::tokenizer::Clean;
use refusals::drop_inert_fields;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Architecture of a model, in open_clip's schema.
///
/// Three fields of the towers are our own and absent from open_clip's files: `act` names a tower's activation where
/// the two towers differ, `patch_bias` gives the patch projection a bias (LaCLIP's models need both), and `init` says
/// how random weights are drawn.
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
    /// Number of residual blocks; of a ResNet, that of each stage.
    pub layers: Layers,
    /// Width of the residual stream; of a ResNet, the channels behind its stem.
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
    /// Bias of the patch projection (ours).
    #[serde(skip_serializing_if = "is_default")]
    pub patch_bias: bool,
    /// How random weights are drawn (ours). Without it as the family of the tower does: LaCLIP's with `patch_bias`,
    /// SigLIP's or EVA-02's by the timm name, else open_clip's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<TowerInit>,
    /// timm's name of the tower: those of SigLIP and EVA-02 are built. It decides the shape, whatever the fields above
    /// say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timm_model_name: Option<String>,
    /// `map` for SigLIP, `token` for EVA-02.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timm_pool: Option<String>,
    /// `none` for SigLIP, empty for EVA-02, whose own head is the projection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timm_proj: Option<String>,
    /// Changes to the shape that the timm name stands for; open_clip reads them from version 4 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timm_model_kwargs: Option<Map<String, Value>>,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            image_size: ImageSize::Square(224),
            layers: Layers::Blocks(12),
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
            init: None,
            timm_model_name: None,
            timm_pool: None,
            timm_proj: None,
            timm_model_kwargs: None,
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
    /// How random weights are drawn (ours); open_clip's way without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<TowerInit>,
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
            init: None,
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

/// How deep a vision tower is, which also says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    /// Blocks of a vision transformer.
    Blocks(usize),
    /// Bottlenecks in each stage of a ResNet.
    Stages([usize; 4]),
}

/// Where a vision tower's positions come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
        if let Some(Value::Object(fields)) = object.get_mut("vision_cfg") {
            timm::expand(fields)?;
        }
        for section in ["vision_cfg", "text_cfg"] {
            if let Some(Value::Object(fields)) = object.get_mut(section) {
                drop_inert_fields(section, fields)?;
            }
        }
        if let Some(Value::Object(fields)) = object.get("vision_cfg") {
            resnet::check_layers(fields)?;
        }
        let mut config: Self = serde_json::from_value(Value::Object(object))
            .map_err(|error| Error::Config(error.to_string()))?;
        config.text_cfg.recognize_clips();
        config.check()?;
        Ok(config)
    }
}

impl ModelConfig {
    /// As it is written into a directory that open_clip reads: without how random weights are drawn, and with a cleaning of
    /// texts that it knows.
    pub fn for_open_clip(&self) -> Self {
        let mut config = self.clone();
        config.vision_cfg.init = None;
        config.text_cfg.init = None;
        if let Some(kwargs) = &mut config.text_cfg.tokenizer_kwargs {
            let clean = kwargs.get("clean").cloned();
            let clean = clean.and_then(|clean| serde_json::from_value::<Clean>(clean).ok());
            if let Some(clean) = clean {
                match clean.open_clip_name() {
                    Some(name) => kwargs.insert("clean".into(), name.into()),
                    None => kwargs.remove("clean"),
                };
            }
            if kwargs.is_empty() {
                config.text_cfg.tokenizer_kwargs = None;
            }
        }
        config
    }
}

impl TextConfig {
    /// CLIPS's releases name BERT's tokenizer and nothing else, but were trained with a framing of their own: the class
    /// token stands last, which `pool_type` then takes. CLIPA's, alike otherwise, have shorter contexts.
    fn recognize_clips(&mut self) {
        let bert = self.hf_tokenizer_name.as_deref() == Some("bert-base-uncased");
        let clips = bert && self.pool_type == TextPoolType::Last && self.context_length == 80;
        if clips && self.tokenizer_mode.is_none() {
            self.tokenizer_mode = Some("clips".into());
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn sizes_that_are_possible_alone_are_refused_where_their_product_is_not() {
        let tiny = serde_json::to_value(ModelConfig::preset("tiny").unwrap()).unwrap();
        for (section, fields, said) in [
            (
                "vision_cfg",
                json!({"image_size": 16_384, "patch_size": 1}),
                "patches",
            ),
            (
                "vision_cfg",
                json!({"image_size": 4096, "patch_size": 16, "width": 16_384, "head_width": 64}),
                "patches",
            ),
            (
                "text_cfg",
                json!({"context_length": 8_192, "width": 16_384}),
                "context_length",
            ),
            (
                "text_cfg",
                json!({"context_length": 1 << 20}),
                "context_length",
            ),
            ("text_cfg", json!({"pad_id": 1u64 << 40}), "pad_id"),
            ("text_cfg", json!({"norm_kwargs": {"eps": -1.0}}), "eps"),
        ] {
            let mut value = tiny.clone();
            for (name, field) in fields.as_object().unwrap() {
                value[section][name] = field.clone();
            }
            let message = ModelConfig::from_json(&value).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let mut value = serde_json::to_value(ModelConfig::preset("tiny").unwrap()).unwrap();
        value["text_cfg"]["contextlength"] = json!(32);
        let message = ModelConfig::from_json(&value).unwrap_err().to_string();
        assert!(message.contains("contextlength"), "{message}");
    }

    #[test]
    fn clips_is_told_from_clipa_by_its_context() {
        let mode = |context: usize, pool: &str| {
            let json = json!({
                "embed_dim": 8,
                "vision_cfg": {"width": 64, "layers": 1},
                "text_cfg": {"context_length": context, "vocab_size": 32000, "hf_tokenizer_name": "bert-base-uncased",
                    "tokenizer_kwargs": {"strip_sep_token": true}, "pool_type": pool, "no_causal_mask": true},
            });
            ModelConfig::from_json(&json)
                .unwrap()
                .text_cfg
                .tokenizer_mode
        };
        assert_eq!(mode(80, "last").as_deref(), Some("clips"));
        assert_eq!(mode(32, "last"), None);
        assert_eq!(mode(80, "first"), None);
    }

    #[test]
    fn a_timm_name_decides_the_shape_and_an_unknown_one_is_refused() {
        let json = |name: &str, pool: &str| {
            json!({
                "embed_dim": 768, "custom_text": true,
                "vision_cfg": {"image_size": 224, "width": 5, "timm_model_name": name, "timm_pool": pool,
                    "timm_proj": "none"},
                "text_cfg": {},
            })
        };
        let config =
            ModelConfig::from_json(&json("vit_base_patch16_siglip_224.v2_webli", "map")).unwrap();
        let vision = &config.vision_cfg;
        assert_eq!(
            (vision.width, vision.layers, vision.patch_size),
            (768, Layers::Blocks(12), 16)
        );
        for (name, pool, expected) in [
            ("vit_base_patch16_siglip_224", "avg", "timm_pool"),
            ("vit_base_patch16_siglip_320", "map", "siglip_320"),
            ("convnext_base", "map", "convnext_base"),
        ] {
            let message = ModelConfig::from_json(&json(name, pool))
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
