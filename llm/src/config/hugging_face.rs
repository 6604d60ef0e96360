//! `config.json` of Hugging Face.

use super::{LlamaConfig, RopeScaling};
use serde::Deserialize;
use serde_json::{Value, json};

/// The fields of `config.json` that matter; defaults are those of transformers.
#[derive(Deserialize)]
struct Fields {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeFields>,
    /// Since transformers 5 in place of the two above.
    rope_parameters: Option<RopeFields>,
    #[serde(default)]
    tie_word_embeddings: bool,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMore>,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    quantization_config: Option<Value>,
}

fn default_eps() -> f64 {
    1e-6
}

#[derive(Deserialize)]
struct RopeFields {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// An id, or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

impl From<OneOrMore> for Vec<u32> {
    fn from(ids: OneOrMore) -> Self {
        match ids {
            OneOrMore::One(id) => vec![id],
            OneOrMore::More(ids) => ids,
        }
    }
}

impl LlamaConfig {
    /// Reads the content of Hugging Face's `config.json`.
    ///
    /// # Errors
    ///
    /// Says which field is missing, or asks for what is not supported.
    pub fn from_hugging_face(json: &Value) -> Result<Self, String> {
        match json["model_type"].as_str() {
            Some("llama") => {}
            Some(other) => {
                return Err(format!(
                    "`model_type` is `{other}`; only models of the type `llama` can be read"
                ));
            }
            None => return Err("no `model_type`: not the config of a language model".into()),
        }
        let fields: Fields =
            serde_json::from_value(json.clone()).map_err(|error| error.to_string())?;
        if let Some(act) = fields.hidden_act.filter(|act| act != "silu") {
            return Err(format!("`hidden_act` is `{act}`; only `silu` is supported"));
        }
        if fields.attention_bias || fields.mlp_bias {
            return Err("`attention_bias` and `mlp_bias` are not supported".into());
        }
        if fields.quantization_config.is_some() {
            return Err(
                "the weights are quantised (`quantization_config`); use the original in 16 bits"
                    .into(),
            );
        }
        let (mut theta, mut rope_scaling) = (fields.rope_theta, RopeScaling::None);
        for rope in [fields.rope_scaling, fields.rope_parameters]
            .into_iter()
            .flatten()
        {
            theta = rope.rope_theta.or(theta);
            rope_scaling = rope.scaling()?;
        }
        let heads = fields.num_attention_heads;
        let config = Self {
            vocab_size: fields.vocab_size,
            hidden_size: fields.hidden_size,
            intermediate_size: fields.intermediate_size,
            num_hidden_layers: fields.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: fields.num_key_value_heads.unwrap_or(heads),
            head_dim: match fields.head_dim {
                Some(head_dim) => head_dim,
                None if heads > 0 && fields.hidden_size.is_multiple_of(heads) => {
                    fields.hidden_size / heads
                }
                None => {
                    return Err(format!(
                        "`hidden_size` {} is no multiple of `num_attention_heads` {heads}",
                        fields.hidden_size
                    ));
                }
            },
            max_position_embeddings: fields.max_position_embeddings,
            rms_norm_eps: fields.rms_norm_eps,
            rope_theta: theta.unwrap_or(10_000.0),
            rope_scaling,
            tie_word_embeddings: fields.tie_word_embeddings,
            bos_token_id: fields.bos_token_id,
            eos_token_id: fields.eos_token_id.map(Into::into).unwrap_or_default(),
        };
        config.check()?;
        Ok(config)
    }

    /// The fields of `config.json`, in the spelling that every version of transformers reads.
    pub fn to_hugging_face(&self) -> Value {
        let rope_scaling = match self.rope_scaling {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original as u64,
            }),
        };
        let eos = match &self.eos_token_id[..] {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        };
        let mut fields = json!({
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": rope_scaling,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
        });
        if let Some(longest) = self.max_position_embeddings {
            fields["max_position_embeddings"] = json!(longest);
        }
        fields
    }
}

impl RopeFields {
    fn scaling(&self) -> Result<RopeScaling, String> {
        let need = |name: &str, value: Option<f64>| {
            value
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| format!("rope scaling needs a positive `{name}`"))
        };
        match self.rope_type.as_deref().unwrap_or("default") {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear {
                factor: need("factor", self.factor)?,
            }),
            "llama3" => {
                let scaling = RopeScaling::Llama3 {
                    factor: need("factor", self.factor)?,
                    low_freq_factor: need("low_freq_factor", self.low_freq_factor)?,
                    high_freq_factor: need("high_freq_factor", self.high_freq_factor)?,
                    original_max_position_embeddings: need(
                        "original_max_position_embeddings",
                        self.original_max_position_embeddings,
                    )?,
                };
                if self.low_freq_factor >= self.high_freq_factor {
                    return Err("`low_freq_factor` must be below `high_freq_factor`".into());
                }
                Ok(scaling)
            }
            other => Err(format!(
                "rope scaling `{other}` is not supported; known are default, linear and llama3"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048,
            "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
            "tie_word_embeddings": true, "torch_dtype": "bfloat16", "eos_token_id": [128001, 128008],
            "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
        })
    }

    #[test]
    fn llama_3_2_1b_has_its_published_size() {
        let config = LlamaConfig::from_hugging_face(&llama()).unwrap();
        assert_eq!(config.parameters(), 1_235_814_400);
        assert_eq!((config.head_dim, config.group()), (64, 4));
        assert_eq!(config.eos_token_id, [128001, 128008]);
        assert!(
            matches!(config.rope_scaling, RopeScaling::Llama3 { factor, .. } if factor == 32.0)
        );
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for config in [
            LlamaConfig::from_hugging_face(&llama()).unwrap(),
            LlamaConfig::tiny(300),
            LlamaConfig {
                rope_scaling: RopeScaling::Linear { factor: 4.0 },
                eos_token_id: vec![2],
                ..LlamaConfig::tiny(300)
            },
        ] {
            config.check().unwrap();
            let again = LlamaConfig::from_hugging_face(&config.to_hugging_face());
            assert_eq!(again.unwrap(), config);
        }
    }

    #[test]
    fn both_spellings_of_the_rope_fields_are_read() {
        let old = LlamaConfig::from_hugging_face(&llama()).unwrap();
        let mut new = llama();
        let mut rope = new["rope_scaling"].take();
        rope["rope_theta"] = new["rope_theta"].take();
        new["rope_parameters"] = rope;
        assert_eq!(LlamaConfig::from_hugging_face(&new).unwrap(), old);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        let refused = |field: &str, value: Value| {
            let mut json = llama();
            json[field] = value;
            LlamaConfig::from_hugging_face(&json).unwrap_err()
        };
        assert!(refused("model_type", json!("qwen2")).contains("qwen2"));
        assert!(refused("hidden_act", json!("gelu")).contains("gelu"));
        assert!(refused("attention_bias", json!(true)).contains("attention_bias"));
        assert!(refused("rope_scaling", json!({"type": "yarn"})).contains("yarn"));
        assert!(refused("rope_scaling", json!({"type": "linear"})).contains("factor"));
        assert!(refused("num_key_value_heads", json!(7)).contains("num_key_value_heads"));
        for field in [
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "head_dim",
        ] {
            let message = refused(field, json!(1_u64 << 62));
            assert!(message.contains(field), "{message}");
            assert!(refused(field, json!(0)).contains(field));
        }
        assert!(refused("rms_norm_eps", json!(1e9)).contains("rms_norm_eps"));
        assert!(refused("hidden_size", json!("wide")).contains("wide"));
        assert!(refused("quantization_config", json!({})).contains("quantised"));
    }
}
