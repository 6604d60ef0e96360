//! Hugging Face `SiglipModel` (SigLIP, and SigLIP 2 of fixed resolution): names and `config.json`.

// A circle on purpose: `hugging_face` hands SigLIP's directories over, and most names are its own.
use super::hugging_face;
use super::state_dict::{HostTensor, StateDict};
use crate::config::{
    ActivationArguments, ModelConfig, NormArguments, TextConfig, TextPoolType, VisionConfig,
};
use crate::error::{Error, Result};
use crate::nn::Activation;
use crate::preprocess::{INCEPTION_MEAN, INCEPTION_STD, PreprocessConfig, ResizeMode};
use serde_json::{Value, json};
use std::path::Path;

const PROBE: &str = "vision_model.head.probe";

/// Names that `CLIPModel` does not have, ours on the right.
const HEADS: [(&str, &str); 7] = [
    (PROBE, "visual.attn_pool.latent"),
    (
        "vision_model.head.attention.out_proj.",
        "visual.attn_pool.proj.",
    ),
    (
        "vision_model.head.attention.in_proj_",
        "visual.attn_pool.in_proj.",
    ),
    ("vision_model.head.layernorm.", "visual.attn_pool.norm."),
    ("vision_model.head.mlp.fc1.", "visual.attn_pool.mlp.c_fc."),
    ("vision_model.head.mlp.fc2.", "visual.attn_pool.mlp.c_proj."),
    ("text_model.head.", "text.text_projection."),
];

pub(super) fn is_siglip(dict: &StateDict) -> bool {
    dict.get(PROBE).is_some()
}

/// Renames, joins the projections of the blocks, splits that of the pooling.
pub(super) fn canonical(dict: StateDict, path: &Path) -> Result<StateDict> {
    let renamed = dict.rename(|name| {
        let head = HEADS
            .iter()
            .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
        Some(head.unwrap_or_else(|| name.to_string()))
    });
    let mut dict = hugging_face::canonical(renamed, path)?;
    for kind in ["weight", "bias"] {
        let Some(fused) = dict.remove(&format!("visual.attn_pool.in_proj.{kind}")) else {
            continue; // reported as missing when the weights are applied
        };
        let Some(&rows) = fused.shape().first() else {
            dict.insert(format!("visual.attn_pool.q.{kind}"), fused);
            continue; // reported by its shape
        };
        let (q, kv) = (fused.rows(0..rows / 3), fused.rows(rows / 3..rows));
        dict.insert(format!("visual.attn_pool.q.{kind}"), q);
        dict.insert(format!("visual.attn_pool.kv.{kind}"), kv);
    }
    let latent = dict.remove("visual.attn_pool.latent");
    if let Some(latent) = latent.and_then(one_row) {
        dict.insert("visual.attn_pool.latent", latent);
    }
    Ok(dict)
}

/// `[1, 1, width]` → `[1, width]`.
fn one_row(latent: HostTensor) -> Option<HostTensor> {
    let width = latent.len();
    latent.reshape([1, width])
}

/// `config.json` of a `SiglipModel` in open_clip's schema.
pub(super) fn model_config(config: &Value, path: &Path) -> Result<ModelConfig> {
    let refuse = |problem: String| Err(Error::format(path, problem));
    let (vision, text) = (&config["vision_config"], &config["text_config"]);
    // Missing fields have the defaults of transformers' SiglipVisionConfig and SiglipTextConfig.
    let size = |section: &Value, name: &str, default: usize| match &section[name] {
        Value::Null => Ok(default),
        value => value.as_u64().map(|n| n as usize).ok_or_else(|| {
            Error::format(
                path,
                format!("`{name}` = {value} is not supported, only an integer"),
            )
        }),
    };
    for (section, name) in [(vision, "vision_config"), (text, "text_config")] {
        let act = section["hidden_act"]
            .as_str()
            .unwrap_or("gelu_pytorch_tanh");
        if act != "gelu_pytorch_tanh" {
            return refuse(format!(
                "`{name}.hidden_act` {act} is not supported, only gelu_pytorch_tanh"
            ));
        }
        let eps = section["layer_norm_eps"].as_f64().unwrap_or(EPS);
        if eps != EPS {
            return refuse(format!(
                "`{name}.layer_norm_eps` {eps} is not supported, only {EPS}"
            ));
        }
    }
    if vision["vision_use_head"] == json!(false) {
        return refuse(
            "`vision_use_head` is false: a vision tower without its pooling has no embedding"
                .into(),
        );
    }
    let width = size(vision, "hidden_size", 768)?;
    let text_width = size(text, "hidden_size", 768)?;
    let shape = (
        width,
        size(vision, "num_hidden_layers", 12)?,
        size(vision, "num_attention_heads", 12)?,
        size(vision, "intermediate_size", 3072)? as f64 / width.max(1) as f64,
    );
    let vocab_size = size(text, "vocab_size", 32_000)?;
    // SigLIP's tokenizer removes punctuation; SigLIP 2 has Gemma's, which keeps it.
    let clean = match vocab_size {
        GEMMA_VOCABULARY => "hf_lower",
        _ => "hf_canonicalize",
    };
    let value = ModelConfig {
        embed_dim: size(text, "projection_size", text_width)?,
        quick_gelu: false,
        init_logit_scale: 10f64.ln(),
        init_logit_bias: Some(-10.0),
        custom_text: true,
        nonscalar_logit_scale: false,
        vision_cfg: VisionConfig::siglip(
            size(vision, "image_size", 224)?,
            size(vision, "patch_size", 16)?,
            shape,
            Activation::GeluTanh,
        ),
        text_cfg: TextConfig {
            context_length: size(text, "max_position_embeddings", 64)?,
            vocab_size,
            // Its files are read from the directory; CLIP's tokenizer would fit the larger vocabularies and be wrong.
            hf_tokenizer_name: Some("siglip".into()),
            tokenizer_kwargs: json!({ "clean": clean }).as_object().cloned(),
            width: text_width,
            heads: size(text, "num_attention_heads", 12)?,
            layers: size(text, "num_hidden_layers", 12)?,
            mlp_ratio: size(text, "intermediate_size", 3072)? as f64 / text_width.max(1) as f64,
            no_causal_mask: true,
            pool_type: TextPoolType::Last,
            proj_bias: true,
            act_kwargs: Some(ActivationArguments {
                approximate: "tanh".into(),
            }),
            norm_kwargs: Some(NormArguments { eps: EPS }),
            ..TextConfig::default()
        },
    };
    ModelConfig::from_json(&serde_json::to_value(value).expect("a config is plain data"))
        .map_err(|error| Error::format(path, error.to_string()))
}

/// Of all norms of SigLIP.
const EPS: f64 = 1e-6;

/// Tokens of Gemma's tokenizer.
const GEMMA_VOCABULARY: usize = 256_000;

/// What `SiglipImageProcessor` does where no file says otherwise.
pub(super) fn preprocess_config() -> PreprocessConfig {
    PreprocessConfig {
        mean: INCEPTION_MEAN,
        std: INCEPTION_STD,
        resize_mode: ResizeMode::Squash,
        ..PreprocessConfig::default()
    }
}
