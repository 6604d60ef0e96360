//! Hugging Face `CLIPModel`: names, `config.json` and `preprocessor_config.json`.

use super::siglip;
use super::state_dict::{HostTensor, StateDict};
use crate::config::{
    ActivationArguments, ImageSize, Layers, ModelConfig, NormArguments, TextConfig, TextPoolType,
    VisionConfig,
};
use crate::error::{Error, Result};
use crate::preprocess::{CropRounding, Interpolation, MAX_SIZE, PreprocessConfig, ResizeMode};
use serde_json::Value;
use std::path::Path;

/// Root names, ours on the right. The misspelling is in the released files.
const ROOTS: [(&str, &str); 13] = [
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    (
        "vision_model.embeddings.class_embedding",
        "visual.class_embedding",
    ),
    (
        "vision_model.embeddings.position_embedding.weight",
        "visual.positional_embedding",
    ),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    (
        "vision_model.encoder.layers.",
        "visual.transformer.resblocks.",
    ),
    ("visual_projection.weight", "visual.proj"),
    (
        "text_model.embeddings.token_embedding.",
        "text.token_embedding.",
    ),
    (
        "text_model.embeddings.position_embedding.weight",
        "text.positional_embedding",
    ),
    ("text_model.final_layer_norm.", "text.ln_final."),
    ("text_model.encoder.layers.", "text.transformer.resblocks."),
    ("text_projection.weight", "text.text_projection"),
    ("logit_scale", "logit_scale"),
];

/// Names within a block.
const IN_BLOCK: [(&str, &str); 5] = [
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
];

/// Renames, joins the separate query, key and value projections, transposes the two projections.
pub(super) fn canonical(dict: StateDict, path: &Path) -> Result<StateDict> {
    let mut renamed = dict.rename(|name| {
        if name.ends_with(".position_ids") {
            return None;
        }
        let root = ROOTS
            .iter()
            .find_map(|(from, to)| Some((to, name.strip_prefix(from)?)));
        Some(match root {
            Some((to, rest)) => IN_BLOCK
                .iter()
                .fold(format!("{to}{rest}"), |name, (from, to)| {
                    name.replace(from, to)
                }),
            None => name.to_string(),
        })
    });
    let queries: Vec<String> = renamed
        .names()
        .filter(|name| name.contains(".self_attn.q_proj."))
        .map(Into::into)
        .collect();
    for query in queries {
        let parts: Option<Vec<_>> = ["q_proj", "k_proj", "v_proj"]
            .map(|part| renamed.remove(&query.replace("q_proj", part)))
            .into_iter()
            .collect();
        let fused = query.replace(".self_attn.q_proj.", ".attn.in_proj_");
        let joined = parts.and_then(HostTensor::concatenate).ok_or_else(|| {
            Error::format(path, format!("`{query}` has no matching k_proj and v_proj"))
        })?;
        renamed.insert(fused, joined);
    }
    for matrix in ["visual.proj", "text.text_projection"] {
        if let Some(tensor) = renamed.remove(matrix) {
            renamed.insert(matrix, tensor.transpose());
        }
    }
    Ok(renamed)
}

/// `config.json` of a `CLIPModel` in open_clip's schema.
pub(super) fn model_config(config: &Value, path: &Path) -> Result<ModelConfig> {
    match config["model_type"].as_str().unwrap_or("unknown") {
        "clip" => {}
        "siglip" => return siglip::model_config(config, path),
        "siglip2" => {
            return Err(Error::format(
                path,
                "`model_type` siglip2 is SigLIP 2 with images of any shape (NaFlex), which is not supported; take a \
                 release of fixed resolution, such as siglip2-base-patch16-224",
            ));
        }
        kind => {
            return Err(Error::format(
                path,
                format!("`model_type` is {kind}, expected clip or siglip"),
            ));
        }
    }
    let (vision, text) = (&config["vision_config"], &config["text_config"]);
    // Missing fields have the defaults of transformers' CLIPVisionConfig and CLIPTextConfig.
    let size = |section: &Value, name: &str, default: u64| {
        section[name].as_u64().unwrap_or(default) as usize
    };
    let act = |section: &Value| {
        section["hidden_act"]
            .as_str()
            .unwrap_or("quick_gelu")
            .to_string()
    };
    let tanh = |name: &str| {
        matches!(name, "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast").then(|| {
            ActivationArguments {
                approximate: "tanh".into(),
            }
        })
    };
    let (vision_act, text_act) = (act(vision), act(text));
    for name in [&vision_act, &text_act] {
        if name != "quick_gelu" && name != "gelu" && tanh(name).is_none() {
            return Err(Error::format(
                path,
                format!("`hidden_act` {name} is not supported"),
            ));
        }
    }
    let quick = vision_act == "quick_gelu";
    if quick != (text_act == "quick_gelu") {
        return Err(Error::format(
            path,
            "the towers differ in `hidden_act`, which is not supported",
        ));
    }
    let norm = |section: &Value| {
        let eps = section["layer_norm_eps"].as_f64().unwrap_or(1e-5);
        (eps != 1e-5).then_some(NormArguments { eps })
    };
    let ratio = |section: &Value, width: usize| {
        let default = 4u64.saturating_mul(width as u64);
        size(section, "intermediate_size", default) as f64 / width as f64
    };
    let (vision_width, text_width) = (
        size(vision, "hidden_size", 768),
        size(text, "hidden_size", 512),
    );
    // transformers pools the largest id where the end-of-text id is the old, wrong 2.
    let eos = text["eos_token_id"].as_i64().unwrap_or(49407);
    let value = ModelConfig {
        embed_dim: size(config, "projection_dim", 512),
        quick_gelu: quick,
        init_logit_scale: config["logit_scale_init_value"].as_f64().unwrap_or(2.6592),
        init_logit_bias: None,
        custom_text: false,
        nonscalar_logit_scale: false,
        vision_cfg: VisionConfig {
            image_size: ImageSize::Square(size(vision, "image_size", 224)),
            layers: Layers::Blocks(size(vision, "num_hidden_layers", 12)),
            width: vision_width,
            head_width: vision_width / size(vision, "num_attention_heads", 12).max(1),
            mlp_ratio: ratio(vision, vision_width),
            patch_size: size(vision, "patch_size", 32),
            act_kwargs: tanh(&vision_act),
            norm_kwargs: norm(vision),
            ..VisionConfig::default()
        },
        text_cfg: TextConfig {
            context_length: size(text, "max_position_embeddings", 77),
            vocab_size: size(text, "vocab_size", 49408),
            width: text_width,
            heads: size(text, "num_attention_heads", 8),
            layers: size(text, "num_hidden_layers", 12),
            mlp_ratio: ratio(text, text_width),
            pool_type: if eos == 2 {
                TextPoolType::Argmax
            } else {
                TextPoolType::Eos
            },
            eos_id: (eos != 2).then_some(eos),
            act_kwargs: tanh(&text_act),
            norm_kwargs: norm(text),
            ..TextConfig::default()
        },
    };
    ModelConfig::from_json(&serde_json::to_value(value).expect("a config is plain data"))
        .map_err(|error| Error::format(path, error.to_string()))
}

/// `preprocessor_config.json` of a `CLIPImageProcessor`.
pub(super) fn preprocess_config(config: &Value, path: &Path) -> Result<PreprocessConfig> {
    let mut preprocess = PreprocessConfig {
        crop_rounding: CropRounding::Down,
        ..PreprocessConfig::default()
    };
    if config["do_resize"] == Value::Bool(false) {
        return Err(Error::format(
            path,
            "`do_resize` is false: images would keep their size, and the tower sees only one",
        ));
    }
    for field in ["size", "crop_size"] {
        let (height, width) = (&config[field]["height"], &config[field]["width"]);
        if height != width {
            let what = format!("`{field}` is {height} by {width}; only squares are supported");
            return Err(Error::format(path, what));
        }
    }
    let side = |value: &Value| match value {
        Value::Number(side) => side.as_u64(),
        other => other["shortest_edge"].as_u64().or(other["height"].as_u64()),
    };
    // What is absent has the default of its class; other classes than CLIP's do not crop unless they say so.
    let class = config["image_processor_type"].as_str();
    let of_clip = class.is_none_or(|class| class.starts_with("CLIP"));
    let default = of_clip.then_some(224);
    let squash = config["size"]["height"].is_u64();
    let crops = match &config["do_center_crop"] {
        Value::Bool(crops) => *crops,
        _ => of_clip || !config["crop_size"].is_null(),
    };
    let resized = side(&config["size"]).or(default);
    let cropped = side(&config["crop_size"]).or(default).filter(|_| crops);
    for (field, side) in [("size", resized), ("crop_size", cropped)] {
        if let Some(side) = side.filter(|side| !(1..=MAX_SIZE as u64).contains(side)) {
            let what = format!("`{field}` is {side}; it must be from 1 to {MAX_SIZE}");
            return Err(Error::format(path, what));
        }
    }
    // The crop is what the model sees; without one, the resized image.
    if let Some(side) = cropped.or(resized) {
        preprocess.size = [side as usize; 2];
    }
    if let (Some(resized), Some(cropped)) = (resized, cropped)
        && resized != cropped
    {
        if squash || resized < cropped {
            return Err(Error::format(
                path,
                format!(
                    "images are resized to `size` {resized} and cropped to `crop_size` {cropped}; with a crop of another \
                     size, `size` must be a longer `shortest_edge`"
                ),
            ));
        }
        preprocess.shortest_edge = Some(resized as usize);
    }
    if !squash && config["do_center_crop"] == Value::Bool(false) {
        return Err(Error::format(
            path,
            "`do_center_crop` is false: images would keep their aspect ratio, and the tower sees only one shape",
        ));
    }
    preprocess.resize_mode = match squash {
        true => ResizeMode::Squash,
        false => ResizeMode::Shortest,
    };
    preprocess.interpolation = match config["resample"].as_u64() {
        None | Some(3) => Interpolation::Bicubic,
        Some(2) => Interpolation::Bilinear,
        Some(other) => {
            return Err(Error::format(
                path,
                format!("`resample` {other} is not supported"),
            ));
        }
    };
    let statistics = |name: &str, default: [f32; 3]| -> [f32; 3] {
        let values = config[name].as_array();
        let values: Option<Vec<f32>> =
            values.and_then(|v| v.iter().map(|x| x.as_f64().map(|x| x as f32)).collect());
        values.and_then(|v| v.try_into().ok()).unwrap_or(default)
    };
    // transformers: (x · factor − mean) / std. Ours: (x / 255 − mean') / std'.
    let done = |step: &str| config[step] != Value::Bool(false);
    if done("do_normalize") {
        preprocess.mean = statistics("image_mean", preprocess.mean);
        preprocess.std = statistics("image_std", preprocess.std);
    } else {
        (preprocess.mean, preprocess.std) = ([0.0; 3], [1.0; 3]);
    }
    let factor = match done("do_rescale") {
        true => config["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0),
        false => 1.0,
    };
    if !(factor.is_finite() && factor > 0.0) {
        let what = format!("`rescale_factor` is {factor}, which must be above 0");
        return Err(Error::format(path, what));
    }
    if (factor * 255.0 - 1.0).abs() > 1e-6 {
        let scaled = |x: f32| (f64::from(x) / (factor * 255.0)) as f32;
        preprocess.mean = preprocess.mean.map(scaled);
        preprocess.std = preprocess.std.map(scaled);
    }
    let (mean, std) = (preprocess.mean, preprocess.std);
    if !mean.iter().all(|x| x.is_finite()) || !std.iter().all(|x| x.is_finite() && *x > 0.0) {
        let what = format!(
            "`image_mean` {mean:?} and `image_std` {std:?} (with `rescale_factor` taken in) must be finite numbers, those of \
             `image_std` above 0"
        );
        return Err(Error::format(path, what));
    }
    Ok(preprocess)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_processor_of_impossible_numbers_is_refused_by_field() {
        let path = Path::new("preprocessor_config.json");
        for (config, said) in [
            (json!({"size": 0, "crop_size": 0}), "`size` is 0"),
            (
                json!({"size": 1u64 << 63, "crop_size": 224}),
                "`size` is 9223372036854775808",
            ),
            (
                json!({"size": 224, "crop_size": 1 << 20, "do_center_crop": true}),
                "`crop_size` is 1048576",
            ),
            (
                json!({"image_std": [0.0, 1.0, 1.0]}),
                "`image_std` [0.0, 1.0, 1.0]",
            ),
            (
                json!({"image_mean": [1e300, 0.0, 0.0]}),
                "`image_mean` [inf",
            ),
            (json!({"rescale_factor": 1e-300}), "`image_std`"),
        ] {
            let message = preprocess_config(&config, path).unwrap_err().to_string();
            assert!(
                message.contains(said) && message.contains("preprocessor_config.json"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_width_of_half_of_all_numbers_is_refused() {
        let config = json!({"model_type": "clip", "vision_config": {"hidden_size": 1u64 << 63}});
        let message = model_config(&config, Path::new("config.json"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("vision_cfg.width"), "{message}");
    }
}
