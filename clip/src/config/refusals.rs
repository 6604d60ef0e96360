//! What a configuration may ask for and we do not build.

use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

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
            ("timm_model_pretrained", json!(false)),
            ("timm_proj_bias", json!(false)),
            ("timm_drop", json!(0.0)),
            ("timm_drop_path", Value::Null),
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

/// Removes nulls and fields at the value that changes nothing; refuses the others we do not build.
pub(super) fn drop_inert_fields(section: &str, fields: &mut Map<String, Value>) -> Result<()> {
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
