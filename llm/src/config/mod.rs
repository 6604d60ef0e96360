//! Architecture of a Llama.

mod hugging_face;

pub(crate) use hugging_face::OneOrMore;

/// Architecture of a [`Llama`](crate::Llama). Field names are those of Hugging Face's `LlamaConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLPs.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Heads of the queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values; divides the heads of the queries.
    pub num_key_value_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Longest sequence that the model was trained for, in tokens, where the file says so.
    pub max_position_embeddings: Option<usize>,
    /// Added to the mean square in the norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Change of the rotary frequencies for long sequences.
    pub rope_scaling: RopeScaling,
    /// Whether the head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Id that begins a text, where the file names one.
    pub bos_token_id: Option<u32>,
    /// Ids that end a text.
    pub eos_token_id: Vec<u32>,
}

/// How rotary frequencies are stretched.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// All divided by `factor` (position interpolation).
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a linear blend between.
    Llama3 {
        /// Divides the lowest frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are short.
        high_freq_factor: f64,
        /// Sequence length of the first training, in tokens.
        original_max_position_embeddings: f64,
    },
}

impl LlamaConfig {
    /// A small model to train from scratch: width 128, 4 layers, the embedding table as the head. Change the fields
    /// for another; [`Self::init`] checks nothing, [`Self::check`] does.
    pub fn tiny(vocab_size: usize) -> Self {
        Self {
            vocab_size,
            hidden_size: 128,
            intermediate_size: 352,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 32,
            max_position_embeddings: Some(512),
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            tie_word_embeddings: true,
            bos_token_id: Some(0),
            eos_token_id: vec![1, 4], // as `Tokenizer::train` numbers the end of a text and of a turn
        }
    }

    /// Tokens of the longest sequence that the model can do, where the file says so. With linear scaling it is the stretched
    /// length, whichever of the two the file gives: beyond it nothing was trained.
    pub fn longest_sequence(&self) -> Option<usize> {
        let longest = self.max_position_embeddings?;
        Some(match self.rope_scaling {
            RopeScaling::None | RopeScaling::Llama3 { .. } => longest,
            RopeScaling::Linear { factor } => (longest as f64 * factor.max(1.0)) as usize,
        })
    }

    /// Query heads that share a head of keys and values.
    pub fn group(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// Number of weights of the model without its head.
    pub fn encoder_parameters(&self) -> usize {
        let head = match self.tie_word_embeddings {
            true => 0,
            false => self.vocab_size * self.hidden_size,
        };
        self.parameters() - head
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        let (width, kv) = (self.hidden_size, self.num_key_value_heads * self.head_dim);
        let attention = 2 * width * (self.num_attention_heads * self.head_dim + kv);
        let layer = attention + 3 * width * self.intermediate_size + 2 * width;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        tables * self.vocab_size * width + self.num_hidden_layers * layer + width
    }

    /// Refuses what no model can have. The upper bounds lie far above any model that is known, and keep every product of
    /// sizes below 2^63.
    ///
    /// # Errors
    ///
    /// Names the field and its value.
    pub fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 18),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 12),
            ("head_dim", self.head_dim, 1 << 12),
        ];
        for (name, size, most) in sizes {
            if size == 0 || size > most {
                return Err(format!("`{name}` is {size}; a model has 1 to {most}"));
            }
        }
        let ids = self.eos_token_id.iter().chain(&self.bos_token_id);
        if let Some(id) = ids.copied().find(|id| *id as usize >= self.vocab_size) {
            return Err(format!(
                "token id {id} begins or ends texts, but `vocab_size` is {}",
                self.vocab_size
            ));
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(format!(
                "`num_attention_heads` {} is no multiple of `num_key_value_heads` {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("`head_dim` {} is odd", self.head_dim));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let (theta, eps) = (self.rope_theta, self.rms_norm_eps);
        if !positive(theta) || !positive(eps) || theta > 1e15 || eps > 1.0 {
            return Err(format!(
                "`rope_theta` {theta} must be above 0 and up to 1e15, `rms_norm_eps` {eps} above 0 and up to 1"
            ));
        }
        Ok(())
    }
}
