//! Meta's `consolidated.*.pth` with `params.json`.
//!
//! Their rotary positions pair neighbouring entries of a head; ours pair entries half a head apart. The rows of
//! `wq` and `wk` are reordered accordingly, which changes no score.

use super::Contents;
use crate::config::{LlamaConfig, RopeScaling};
use crate::error::{Error, Result};
use crate::json::read_json;
use crate::tokenizer::Tokenizer;
use clip::checkpoint::{HostTensor, StateDict, read_state_dict};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `params.json`; defaults are those of Meta's code.
#[derive(Deserialize)]
struct Params {
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: Option<usize>,
    /// -1 stands for the tokenizer's.
    #[serde(default = "unknown")]
    vocab_size: i64,
    #[serde(default = "default_eps")]
    norm_eps: f64,
    rope_theta: Option<f64>,
    #[serde(default)]
    use_scaled_rope: bool,
    rope_scaling_factor: Option<f64>,
}

fn unknown() -> i64 {
    -1
}

fn default_eps() -> f64 {
    1e-5
}

/// Names within a layer, and how their shards are joined.
const IN_LAYER: [(&str, &str, Join); 9] = [
    ("attention.wq.weight", "self_attn.q_proj.weight", Join::Rows),
    ("attention.wk.weight", "self_attn.k_proj.weight", Join::Rows),
    ("attention.wv.weight", "self_attn.v_proj.weight", Join::Rows),
    (
        "attention.wo.weight",
        "self_attn.o_proj.weight",
        Join::Columns,
    ),
    ("feed_forward.w1.weight", "mlp.gate_proj.weight", Join::Rows),
    (
        "feed_forward.w2.weight",
        "mlp.down_proj.weight",
        Join::Columns,
    ),
    ("feed_forward.w3.weight", "mlp.up_proj.weight", Join::Rows),
    (
        "attention_norm.weight",
        "input_layernorm.weight",
        Join::Copies,
    ),
    (
        "ffn_norm.weight",
        "post_attention_layernorm.weight",
        Join::Copies,
    ),
];

#[derive(Clone, Copy)]
enum Join {
    Rows,
    Columns,
    Copies,
}

pub(super) fn open(directory: &Path, params_path: &Path) -> Result<Contents> {
    let params: Params = serde_json::from_value(read_json(params_path)?)
        .map_err(|error| Error::format(params_path, error.to_string()))?;
    let tokenizer = Tokenizer::from_directory(directory, None)?;
    let files = shards(directory)?;
    let read = |path: &PathBuf| read_state_dict(path).map_err(Error::from);
    let dicts = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    let joined = join(dicts, &params, &files[0])?;
    let config = params
        .config(&joined, &tokenizer)
        .map_err(|problem| Error::format(params_path, problem))?;
    Ok(Contents {
        weights: reorder(joined, &config),
        config,
        tokenizer,
    })
}

fn shards(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = directory.read_dir().map_err(Error::io(directory))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("consolidated.") && name.ends_with(".pth") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::format(
            directory,
            "params.json is here, but no consolidated.*.pth beside it",
        ));
    }
    for (i, path) in files.iter().enumerate() {
        if path.file_name() != Some(format!("consolidated.{i:02}.pth").as_ref()) {
            return Err(Error::format(
                directory,
                format!(
                    "consolidated.{i:02}.pth is missing among {} shards",
                    files.len()
                ),
            ));
        }
    }
    Ok(files)
}

/// One state dict of all shards, under Hugging Face's names.
fn join(dicts: Vec<StateDict>, params: &Params, path: &Path) -> Result<StateDict> {
    let names: Vec<String> = dicts[0].names().map(str::to_string).collect();
    let mut joined = StateDict::default();
    for name in names
        .into_iter()
        .filter(|name| !name.ends_with("rope.freqs"))
    {
        let parts: Option<Vec<HostTensor>> =
            dicts.iter().map(|dict| dict.get(&name).cloned()).collect();
        let parts =
            parts.ok_or_else(|| Error::format(path, format!("`{name}` is not in every shard")))?;
        let (new, how) = rename(&name, &parts[0], params);
        let whole = match how {
            Join::Copies => parts.into_iter().next(),
            Join::Rows => HostTensor::concatenate(parts),
            Join::Columns => {
                let turned = parts.into_iter().map(HostTensor::transpose).collect();
                HostTensor::concatenate(turned).map(HostTensor::transpose)
            }
        };
        let whole = whole.ok_or_else(|| {
            Error::format(path, format!("the shards of `{name}` do not fit together"))
        })?;
        joined.insert(new, whole);
    }
    Ok(joined)
}

fn rename(name: &str, part: &HostTensor, params: &Params) -> (String, Join) {
    match name {
        // Llama 1 and 2 cut the table by columns, Llama 3 by rows.
        "tok_embeddings.weight" => {
            let whole_rows = part.shape().get(1) == Some(&params.dim);
            let how = if whole_rows {
                Join::Rows
            } else {
                Join::Columns
            };
            return ("model.embed_tokens.weight".into(), how);
        }
        "norm.weight" => return ("model.norm.weight".into(), Join::Copies),
        "output.weight" => return ("lm_head.weight".into(), Join::Rows),
        _ => {}
    }
    let in_layer = name
        .strip_prefix("layers.")
        .and_then(|rest| rest.split_once('.'))
        .and_then(|(layer, rest)| {
            let known = IN_LAYER.iter().find(|(theirs, ..)| *theirs == rest)?;
            Some((format!("model.layers.{layer}.{}", known.1), known.2))
        });
    // An unknown name is kept, so that the strict load lists it.
    in_layer.unwrap_or_else(|| (name.into(), Join::Copies))
}

impl Params {
    fn config(&self, weights: &StateDict, tokenizer: &Tokenizer) -> Result<LlamaConfig, String> {
        let vocab_size = match self.vocab_size {
            -1 => tokenizer.vocab_size(),
            size => usize::try_from(size).map_err(|_| format!("`vocab_size` is {size}"))?,
        };
        if self.n_heads == 0 || !self.dim.is_multiple_of(self.n_heads) {
            return Err(format!(
                "`dim` {} is no multiple of `n_heads` {}",
                self.dim, self.n_heads
            ));
        }
        // The formula with `multiple_of` has had several forms; the matrix itself has one.
        let name = "model.layers.0.mlp.gate_proj.weight";
        let intermediate_size = match weights.get(name).map(HostTensor::shape) {
            Some([rows, _]) => *rows,
            Some(other) => return Err(format!("`{name}` is no matrix: its shape is {other:?}")),
            None => 1, // the strict load says that it is missing
        };
        let config = LlamaConfig {
            vocab_size,
            hidden_size: self.dim,
            intermediate_size,
            num_hidden_layers: self.n_layers,
            num_attention_heads: self.n_heads,
            num_key_value_heads: self.n_kv_heads.unwrap_or(self.n_heads),
            head_dim: self.dim / self.n_heads,
            max_position_embeddings: None,
            rms_norm_eps: self.norm_eps,
            rope_theta: self.rope_theta.unwrap_or(10_000.0),
            rope_scaling: self.scaling(),
            tie_word_embeddings: weights.get("lm_head.weight").is_none(),
            bos_token_id: tokenizer.bos(),
            eos_token_id: tokenizer.eos().to_vec(),
        };
        config.check()?;
        Ok(config)
    }

    /// The constants that Meta's code has for Llama 3.1 and, in its small models, 3.2.
    fn scaling(&self) -> RopeScaling {
        if !self.use_scaled_rope {
            return RopeScaling::None;
        }
        let small = self.dim < 4096;
        RopeScaling::Llama3 {
            factor: self
                .rope_scaling_factor
                .unwrap_or(if small { 32.0 } else { 8.0 }),
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        }
    }
}

/// From pairs of neighbours to pairs half a head apart.
fn reorder(weights: StateDict, config: &LlamaConfig) -> StateDict {
    let dim = config.head_dim;
    let order = |rows: usize| {
        let source = |row: usize| {
            let (head, at) = (row / dim, row % dim);
            head * dim + 2 * (at % (dim / 2)) + at / (dim / 2)
        };
        (0..rows).map(source).collect()
    };
    weights
        .into_iter()
        .map(|(name, tensor)| {
            let turned = [".q_proj.weight", ".k_proj.weight"];
            // What is no matrix, or has no whole number of heads, is left to the strict load to complain about.
            let whole_heads = matches!(*tensor.shape(), [rows, _] if rows.is_multiple_of(dim));
            if whole_heads && turned.iter().any(|end| name.ends_with(end)) {
                let order = order(tensor.shape()[0]);
                (name, tensor.reorder_rows(order))
            } else {
                (name, tensor)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Under the names that matrices have here, tensors of a file come as they are.
    #[test]
    fn what_is_no_matrix_is_named_or_left_to_the_strict_load() {
        let tokenizer = Tokenizer::train(&["a text"], 300).unwrap();
        let params = json!({"dim": 8, "n_layers": 1, "n_heads": 2});
        let params: Params = serde_json::from_value(params).unwrap();
        let scalar = |name: &str| {
            let mut dict = StateDict::default();
            let value = HostTensor::from_values(vec![1.0], Vec::<usize>::new());
            dict.insert(name.to_string(), value);
            dict
        };
        let gate = "model.layers.0.mlp.gate_proj.weight";
        let message = params.config(&scalar(gate), &tokenizer).unwrap_err();
        assert!(
            message.contains(gate) && message.contains("[]"),
            "{message}"
        );
        let query = "model.layers.0.self_attn.q_proj.weight";
        let config = params.config(&scalar(query), &tokenizer).unwrap();
        let read = reorder(scalar(query), &config);
        assert!(read.get(query).unwrap().shape().is_empty());
    }
}
