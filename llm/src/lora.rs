//! LoRA on a decoder (Hu et al., 2021): small trained matrices beside frozen weights.

use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::model::{Decoder, Llama};
use crate::nn::{Attention, Layer, Lora, Mlp, Projection};
use burn::prelude::*;
use clip::nn::init::Init;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Linear layers of a decoder layer, with the module that each is in.
pub(crate) const PROJECTIONS: [(&str, &str); 7] = [
    ("self_attn", "q_proj"),
    ("self_attn", "k_proj"),
    ("self_attn", "v_proj"),
    ("self_attn", "o_proj"),
    ("mlp", "gate_proj"),
    ("mlp", "up_proj"),
    ("mlp", "down_proj"),
];

/// Which linear layers change, and how much freedom they get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the change.
    pub rank: usize,
    /// The change is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Share of a layer's inputs that training drops before A.
    pub dropout: f64,
    /// Names of linear layers: `q_proj` for that of every layer, `layers.3.mlp.up_proj` for one.
    pub targets: Vec<String>,
}

impl LoraConfig {
    /// LLM2CLIP's: rank 16, alpha 32, dropout 0.05, all linear layers (`run_supervised.py`).
    pub fn llm2clip() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.05,
            targets: PROJECTIONS.map(|(_, name)| name.to_string()).to_vec(),
        }
    }

    /// Factor of the change.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Number of trained values in a model of this architecture.
    pub fn parameters(&self, config: &LlamaConfig) -> usize {
        let layers = 0..config.num_hidden_layers;
        let paths = layers.flat_map(|layer| PROJECTIONS.map(|at| (path(layer, at), at.1)));
        let size = |name: &str| {
            let (width, dim) = (config.hidden_size, config.head_dim);
            let (heads, kv) = (config.num_attention_heads, config.num_key_value_heads);
            match name {
                "q_proj" | "o_proj" => width + heads * dim,
                "k_proj" | "v_proj" => width + kv * dim,
                _ => width + config.intermediate_size,
            }
        };
        let chosen = paths.filter(|(path, _)| self.names(path));
        chosen.map(|(_, name)| self.rank * size(name)).sum()
    }

    /// Refuses values without a meaning.
    ///
    /// # Errors
    ///
    /// Names the value.
    pub fn check(&self) -> Result<()> {
        let problem = if self.rank == 0 || self.rank > 1 << 16 {
            format!("LoRA's rank is {}; 16 is usual", self.rank)
        } else if !(self.alpha.is_finite() && self.alpha > 0.0) {
            format!("LoRA's alpha is {}; give a positive number", self.alpha)
        } else if !(0.0..1.0).contains(&self.dropout) {
            format!(
                "LoRA's dropout is {}; give 0 or a share below 1",
                self.dropout
            )
        } else if self.targets.is_empty() {
            "LoRA has no targets: name linear layers, q_proj for example".into()
        } else {
            return Ok(());
        };
        Err(Error::Options(problem))
    }

    /// Whether a layer's path is a target, or ends with one as whole names.
    pub(crate) fn names(&self, path: &str) -> bool {
        self.targets.iter().any(|target| is_at_end(path, target))
    }
}

fn is_at_end(path: &str, target: &str) -> bool {
    let before = path.strip_suffix(target);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

pub(crate) fn path(layer: usize, (module, name): (&str, &str)) -> String {
    format!("layers.{layer}.{module}.{name}")
}

impl<B: Backend> Decoder<B> {
    /// Freezes all weights and adds trainable changes to the targets. The outputs stay what they were, to the bit, until
    /// the first step.
    ///
    /// The base keeps its dtype and stays in memory once. Where it is bf16 and activations are f32, the graph of a
    /// training step holds an f32 copy of every weight that it was multiplied with; with activations in bf16, or blocks
    /// that are replayed, it does not.
    ///
    /// # Errors
    ///
    /// Names a value without a meaning and a target that is no layer of the model. Refuses a model that has LoRA.
    pub fn with_lora(self, config: &LoraConfig, seed: u64, device: &Device<B>) -> Result<Self> {
        config.check()?;
        self.refuse_lora()?;
        let known = self.projection_paths();
        let missed = |target: &&String| !known.iter().any(|path| is_at_end(path, target));
        if let Some(target) = config.targets.iter().find(missed) {
            return Err(Error::Options(format!(
                "LoRA's target `{target}` is no linear layer of the model; there are {}, and paths such as {}",
                PROJECTIONS.map(|(_, name)| name).join(", "),
                known.last().map_or("", String::as_str)
            )));
        }
        let mut init = Init::seeded(seed);
        let kind = (config.rank, config.scale(), config.dropout);
        Ok(self.no_grad().map_projections(|path, mut projection| {
            if config.names(path) {
                let shape = projection.weight.lazy_shape().dims();
                projection.lora = Some(Lora::init(shape, kind, path, &mut init, device));
            }
            projection
        }))
    }

    /// Adds all changes to the weights, which keep their dtype.
    pub fn merge_lora(self) -> Self {
        self.map_projections(|_, projection| projection.merge())
    }

    /// Whether any layer carries a change.
    pub fn has_lora(&self) -> bool {
        self.projections().iter().any(|(_, p)| p.lora.is_some())
    }

    pub(crate) fn refuse_lora(&self) -> Result<()> {
        if self.has_lora() {
            return Err(Error::Options(
                "the model carries LoRA: merge it first (merge_lora)".into(),
            ));
        }
        Ok(())
    }

    pub(crate) fn projection_paths(&self) -> Vec<String> {
        let projections = self.projections().into_iter();
        projections.map(|(path, _)| path).collect()
    }

    /// All linear layers with their paths.
    pub(crate) fn projections(&self) -> Vec<(String, &Projection<B>)> {
        let layers = self.layers.iter().enumerate();
        layers
            .flat_map(|(n, layer)| layer.projections().map(|(at, p)| (path(n, at), p)))
            .collect()
    }

    /// Replaces every linear layer by what `change` makes of it, given its path.
    pub(crate) fn map_projections(
        mut self,
        mut change: impl FnMut(&str, Projection<B>) -> Projection<B>,
    ) -> Self {
        let layers = std::mem::take(&mut self.layers).into_iter().enumerate();
        self.layers = layers
            .map(|(n, layer)| layer.map_projections(|at, p| change(&path(n, at), p)))
            .collect();
        self
    }
}

impl<B: Backend> Llama<B> {
    /// [`Decoder::with_lora`]; the head is frozen as well.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn with_lora(self, config: &LoraConfig, seed: u64, device: &Device<B>) -> Result<Self> {
        Ok(Self {
            model: self.model.with_lora(config, seed, device)?,
            lm_head: self.lm_head.no_grad(),
        })
    }

    /// [`Decoder::with_adapter`]; the head is frozen as well.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn with_adapter(self, directory: &Path, device: &Device<B>) -> Result<(Self, LoraConfig)> {
        let (model, config) = self.model.with_adapter(directory, device)?;
        let lm_head = self.lm_head.no_grad();
        Ok((Self { model, lm_head }, config))
    }

    /// [`Decoder::merge_lora`].
    pub fn merge_lora(self) -> Self {
        Self {
            model: self.model.merge_lora(),
            lm_head: self.lm_head,
        }
    }
}

impl<B: Backend> Layer<B> {
    /// In the order of [`PROJECTIONS`].
    fn projections(&self) -> [(At, &Projection<B>); 7] {
        let (attention, mlp) = (&self.self_attn, &self.mlp);
        [
            (PROJECTIONS[0], &attention.q_proj),
            (PROJECTIONS[1], &attention.k_proj),
            (PROJECTIONS[2], &attention.v_proj),
            (PROJECTIONS[3], &attention.o_proj),
            (PROJECTIONS[4], &mlp.gate_proj),
            (PROJECTIONS[5], &mlp.up_proj),
            (PROJECTIONS[6], &mlp.down_proj),
        ]
    }

    fn map_projections(self, mut change: impl FnMut(At, Projection<B>) -> Projection<B>) -> Self {
        let (attention, mlp) = (self.self_attn, self.mlp);
        Self {
            self_attn: Attention {
                q_proj: change(PROJECTIONS[0], attention.q_proj),
                k_proj: change(PROJECTIONS[1], attention.k_proj),
                v_proj: change(PROJECTIONS[2], attention.v_proj),
                o_proj: change(PROJECTIONS[3], attention.o_proj),
                ..attention
            },
            mlp: Mlp {
                gate_proj: change(PROJECTIONS[4], mlp.gate_proj),
                up_proj: change(PROJECTIONS[5], mlp.up_proj),
                down_proj: change(PROJECTIONS[6], mlp.down_proj),
            },
            input_layernorm: self.input_layernorm,
            post_attention_layernorm: self.post_attention_layernorm,
        }
    }
}

/// Module and name of a linear layer.
type At = (&'static str, &'static str);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn llama3(small: bool) -> LlamaConfig {
        let fields = json!({
            "model_type": "llama", "vocab_size": 128256, "tie_word_embeddings": small,
            "hidden_size": if small { 2048 } else { 4096 },
            "intermediate_size": if small { 8192 } else { 14336 },
            "num_hidden_layers": if small { 16 } else { 32 },
            "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
        });
        LlamaConfig::from_hugging_face(&fields).unwrap()
    }

    #[test]
    fn llm2clips_lora_trains_as_many_values_as_published() {
        let config = LoraConfig::llm2clip();
        assert_eq!(config.parameters(&llama3(false)), 41_943_040);
        assert_eq!(config.parameters(&llama3(true)), 11_272_192);
    }

    #[test]
    fn encoders_have_the_published_number_of_weights() {
        assert_eq!(llama3(false).encoder_parameters(), 7_504_924_672);
        assert_eq!(llama3(true).encoder_parameters(), 1_235_814_400);
    }

    #[test]
    fn a_target_is_whole_names_at_the_end_of_a_path() {
        assert!(is_at_end("layers.3.mlp.up_proj", "up_proj"));
        assert!(is_at_end("layers.3.mlp.up_proj", "mlp.up_proj"));
        assert!(is_at_end("layers.3.mlp.up_proj", "layers.3.mlp.up_proj"));
        assert!(!is_at_end("layers.3.mlp.up_proj", "proj"));
        assert!(!is_at_end("layers.13.mlp.up_proj", "3.mlp.up_proj"));
    }
}
