//! LoRA adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

use crate::error::{Error, Result};
use crate::json::read_json;
use crate::lora::LoraConfig;
use crate::model::Decoder;
use crate::nn::Lora;
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::TensorData;
use clip::checkpoint::{HostTensor, StateDict, read_state_dict, write_safetensors, write_whole};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// What PEFT was wrapped around when it wrote an adapter. Its names differ by one `model.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapped {
    /// The encoder without a head (`LlamaModel`), as in LLM2Vec and LLM2CLIP.
    Decoder,
    /// The language model (`LlamaForCausalLM`).
    CausalLm,
}

/// The fields that matter; those that would change what is computed must be at rest.
#[derive(Deserialize)]
struct Fields {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Value,
    #[serde(default)]
    use_rslora: bool,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The directory of the model that an adapter changes; `None` if this is no directory of an adapter alone.
///
/// # Errors
///
/// When the adapter does not say where its base is, or it is not there.
pub fn adapter_base(directory: &Path) -> Result<Option<PathBuf>> {
    let path = directory.join(CONFIG);
    let whole = ["config.json", "params.json"];
    if !path.is_file() || whole.iter().any(|name| directory.join(name).is_file()) {
        return Ok(None);
    }
    let config = read_json(&path)?;
    let Some(base) = config["base_model_name_or_path"].as_str() else {
        return Err(Error::format(
            &path,
            "`base_model_name_or_path` is missing: write the directory of the language model there",
        ));
    };
    let beside = directory.join(base);
    if beside.is_dir() {
        return Ok(Some(beside));
    }
    if base.starts_with("hf-hub:") || Path::new(base).is_dir() {
        return Ok(Some(base.into()));
    }
    Err(Error::format(
        &path,
        format!(
            "`base_model_name_or_path` is `{base}`, which is no directory here: write the path of the language model \
             there, or hf-hub:{base}"
        ),
    ))
}

/// Fields that must be absent, null, false or empty.
const UNSUPPORTED: [&str; 14] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "fan_in_fan_out",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "monteclora_config",
];

impl Fields {
    fn config(self) -> Result<LoraConfig, String> {
        if self.peft_type != "LORA" {
            return Err(format!(
                "`peft_type` is `{}`; only LORA can be read",
                self.peft_type
            ));
        }
        let bias = self.others.get("bias").and_then(Value::as_str);
        if let Some(bias) = bias.filter(|bias| *bias != "none") {
            return Err(format!("`bias` is `{bias}`; only `none` is supported"));
        }
        let rests = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
            _ => false,
        };
        for field in UNSUPPORTED {
            if let Some(value) = self.others.get(field).filter(|value| !rests(value)) {
                return Err(format!("`{field}` is {value}, which is not supported"));
            }
        }
        let targets = match self.target_modules {
            Value::String(target) => vec![target],
            other => serde_json::from_value(other)
                .map_err(|error| format!("`target_modules`: {error}"))?,
        };
        let rank = self.r as f64;
        Ok(LoraConfig {
            rank: self.r,
            // Rank-stabilised adapters divide by the root of the rank.
            alpha: match self.use_rslora {
                true => self.lora_alpha * rank.sqrt(),
                false => self.lora_alpha,
            },
            dropout: self.lora_dropout,
            targets,
        })
    }
}

impl<B: Backend> Decoder<B> {
    /// Freezes all weights and adds the changes of a PEFT directory, trainable. The tensors say which layers change.
    ///
    /// # Errors
    ///
    /// Names the file, and every tensor that does not fit the model. Refuses a model that has LoRA: merge it first, as
    /// adapters that were trained one after another were.
    pub fn with_adapter(self, directory: &Path, device: &Device<B>) -> Result<(Self, LoraConfig)> {
        self.refuse_lora()?;
        let path = directory.join(CONFIG);
        let fields: Fields = serde_json::from_value(read_json(&path)?)
            .map_err(|error| Error::format(&path, error.to_string()))?;
        let wrong = |problem: String| Error::format(&path, problem);
        let mut config = fields.config().map_err(wrong)?;
        config.check().map_err(|error| wrong(error.to_string()))?;
        let weights = WEIGHTS.map(|name| directory.join(name));
        let weights = weights.iter().find(|path| path.is_file()).ok_or_else(|| {
            Error::format(directory, format!("none of {} is here", WEIGHTS.join(", ")))
        })?;
        let mut dict = read_state_dict(weights)?.rename(|name| Some(bare(name).to_string()));
        let (mut problems, mut changed) = (Vec::new(), Vec::new());
        let model = self.no_grad().map_projections(|path, mut projection| {
            let [a, b] = ["A", "B"].map(|letter| dict.remove(&format!("{path}.lora_{letter}")));
            let (a, b) = match (a, b) {
                (None, None) => return projection,
                (Some(a), Some(b)) => (a, b),
                _ => {
                    problems.push(format!("{path} has only one of lora_A and lora_B"));
                    return projection;
                }
            };
            let [outputs, inputs] = projection.weight.lazy_shape().dims();
            let (wanted_a, wanted_b) = ([config.rank, inputs], [outputs, config.rank]);
            if a.shape() != wanted_a || b.shape() != wanted_b {
                problems.push(format!(
                    "{path} has {:?} and {:?}, the model takes {wanted_a:?} and {wanted_b:?}",
                    a.shape(),
                    b.shape()
                ));
                return projection;
            }
            let (a, b) = (param(&a, wanted_a, device), param(&b, wanted_b, device));
            projection.lora = Some(Lora::new(a, b, config.scale(), config.dropout, path));
            changed.push(path.to_string());
            projection
        });
        problems.extend(
            dict.names()
                .map(|name| format!("{name} is not in the model")),
        );
        if changed.is_empty() {
            problems.push("no layer of the model changes".into());
        }
        if !problems.is_empty() {
            problems.truncate(12);
            return Err(Error::format(weights, problems.join("; ")));
        }
        // A pattern, or a choice of layers, says less than the tensors.
        let paths = model.projection_paths().into_iter();
        let named: Vec<String> = paths.filter(|path| config.names(path)).collect();
        if named != changed {
            config.targets = changed;
        }
        Ok((model, config))
    }

    /// Writes the changes as a PEFT directory. `base` names the model that they belong to.
    ///
    /// # Errors
    ///
    /// Names the file that could not be written; refuses a model without LoRA.
    pub fn write_adapter(
        &self,
        directory: &Path,
        config: &LoraConfig,
        base: &str,
        wrapped: Wrapped,
    ) -> Result<()> {
        let prefix = match wrapped {
            Wrapped::Decoder => "base_model.model.",
            Wrapped::CausalLm => "base_model.model.model.",
        };
        let mut dict = StateDict::default();
        for (path, projection) in self.projections() {
            let Some(lora) = &projection.lora else {
                continue;
            };
            for (letter, matrix) in [("A", &lora.lora_a), ("B", &lora.lora_b)] {
                let name = format!("{prefix}{path}.lora_{letter}.weight");
                dict.insert(name, host(matrix.val()));
            }
        }
        if dict.is_empty() {
            return Err(Error::Options(
                "the model carries no LoRA: there is no adapter to write".into(),
            ));
        }
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        write_safetensors(&directory.join(WEIGHTS[0]), &dict)?;
        let alpha = match config.alpha.fract() == 0.0 {
            true => json!(config.alpha as i64), // PEFT's own type
            false => json!(config.alpha),
        };
        let task = match wrapped {
            Wrapped::Decoder => Value::Null,
            Wrapped::CausalLm => json!("CAUSAL_LM"),
        };
        let fields = json!({
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": alpha,
            "lora_dropout": config.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": config.rank,
            "target_modules": config.targets,
            "task_type": task,
            "use_dora": false,
            "use_rslora": false,
        });
        write_whole(&directory.join(CONFIG), format!("{fields:#}\n").as_bytes())?;
        Ok(())
    }
}

/// `layers.0.mlp.up_proj.lora_A`, whatever PEFT was wrapped around.
fn bare(name: &str) -> &str {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    let name = name.strip_prefix("model.").unwrap_or(name);
    let name = name.strip_suffix(".weight").unwrap_or(name);
    name.strip_suffix(".default").unwrap_or(name)
}

fn param<B: Backend>(
    tensor: &HostTensor,
    shape: [usize; 2],
    device: &Device<B>,
) -> Param<Tensor<B, 2>> {
    let data = TensorData::new(tensor.values(), shape);
    Param::from_tensor(Tensor::from_data(data, (device, burn::tensor::DType::F32)))
}

fn host<B: Backend>(tensor: Tensor<B, 2>) -> HostTensor {
    let shape = tensor.dims();
    let values = tensor.into_data().convert::<f32>().into_vec();
    HostTensor::from_values(values.expect("converted to f32"), shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl Fn(&mut Value)) -> Result<LoraConfig, String> {
        let mut fields = json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.05, "bias": "none",
            "target_modules": ["q_proj"], "rank_pattern": {}, "modules_to_save": null,
        });
        change(&mut fields);
        serde_json::from_value::<Fields>(fields).unwrap().config()
    }

    #[test]
    fn what_changes_the_computation_is_refused_by_name() {
        assert_eq!(config(|_| {}).unwrap().scale(), 2.0);
        assert_eq!(
            config(|f| f["use_rslora"] = json!(true)).unwrap().scale(),
            4.0
        );
        let refused = |field: &str, value: Value| config(|f| f[field] = value.clone()).unwrap_err();
        assert!(refused("peft_type", json!("LOHA")).contains("LOHA"));
        assert!(refused("bias", json!("all")).contains("bias"));
        assert!(refused("use_dora", json!(true)).contains("use_dora"));
        assert!(refused("rank_pattern", json!({"q_proj": 2})).contains("rank_pattern"));
        assert!(refused("modules_to_save", json!(["lm_head"])).contains("modules_to_save"));
    }

    #[test]
    fn names_of_all_wrappers_are_one_name() {
        for name in [
            "base_model.model.layers.0.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight",
        ] {
            assert_eq!(bare(name), "layers.0.mlp.up_proj.lora_A");
        }
    }
}
