use serde::{Deserialize, Serialize};

/// Marks where an instruction ends and the text to be pooled begins (LLM2Vec's constant).
pub const SEPARATOR: &str = "!@#$%^&*()";

/// What is written around a text, in the words that a chat model was trained with. Names of special tokens in it
/// stand for those tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Before the instruction and the text; not pooled.
    pub before: String,
    /// After the text; pooled with it.
    pub after: String,
}

impl Template {
    /// Nothing around the text.
    pub fn none() -> Self {
        Self::default()
    }

    /// A user's turn of Llama 3-Instruct.
    pub fn llama3() -> Self {
        Self {
            before: "<|start_header_id|>user<|end_header_id|>\n\n".into(),
            after: "<|eot_id|>".into(),
        }
    }

    /// A user's turn of Llama 2-chat, and of Mistral-7B-Instruct-v0.2.
    pub fn llama2() -> Self {
        Self {
            before: "[INST] ".into(),
            after: " [/INST]".into(),
        }
    }

    /// Whether nothing is written.
    pub fn is_none(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// Cuts the same characters off both ends as Python's `str.strip`, which takes four control characters for spaces.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}
