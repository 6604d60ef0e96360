//! The tokenizer's part of open_clip's `text_cfg`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Clean, TokenizerError};

/// What a model's configuration says about its tokenizer. Reads the `text_cfg` object of
/// open_clip's `model_cfg`; fields that concern the text tower only are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenizerConfig {
    /// Tokens per text, special tokens and padding included.
    pub context_length: usize,
    /// Rows of the model's token embedding.
    pub vocab_size: usize,
    /// Present if the model uses another tokenizer than CLIP's; its files are then in the model
    /// directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hf_tokenizer_name: Option<String>,
    /// Arguments of open_clip's tokenizer class.
    pub tokenizer_kwargs: TokenizerKwargs,
    /// How rows are laid out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_mode: Option<TokenizerMode>,
    /// Id that fills rows, where no file beside the tokenizer names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_id: Option<i32>,
    /// Id that opens a text, where no file beside the tokenizer names one ([`TokenizerMode::Clips`]
    /// only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos_id: Option<i32>,
    /// Id that closes a text, where no file beside the tokenizer names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_id: Option<i32>,
}

/// open_clip's `tokenizer_kwargs`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenizerKwargs {
    /// Cleaning; if absent, `lower` for CLIP's tokenizer and `whitespace` for any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<Clean>,
    /// Overwrite every separator token by 0 after padding, as CLIPA was trained.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strip_sep_token: bool,
    /// Arguments that are not supported; a tokenizer is refused if there are any.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Layout of a row of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TokenizerMode {
    /// `[bos] text [eos] pad ... pad [cls]`: the class token at the last position, whatever the
    /// text's length.
    Clips,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            context_length: 77,
            vocab_size: 49_408,
            hf_tokenizer_name: None,
            tokenizer_kwargs: TokenizerKwargs::default(),
            tokenizer_mode: None,
            pad_id: None,
            bos_id: None,
            eos_id: None,
        }
    }
}

impl TokenizerConfig {
    /// Refuses what cannot be obeyed, by name, rather than to ignore it.
    pub(super) fn check(&self) -> Result<(), TokenizerError> {
        if let Some((name, value)) = self
            .tokenizer_kwargs
            .other
            .iter()
            .find(|(_, v)| !v.is_null())
        {
            return Err(TokenizerError::Unsupported {
                field: "tokenizer_kwargs",
                value: format!("{{{name:?}: {value}}}"),
                remedy: "remove it, or choose among clean and strip_sep_token",
            });
        }
        self.check_length(1)
    }

    /// Refuses a context that leaves no room for the special tokens and one more.
    pub(super) fn check_length(&self, least: usize) -> Result<(), TokenizerError> {
        if self.context_length >= least {
            return Ok(());
        }
        Err(TokenizerError::Unsupported {
            field: "context_length",
            value: self.context_length.to_string(),
            remedy: "the special tokens alone need more; take the value the model was trained with",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_a_text_cfg() {
        let json = r#"{"context_length": 32, "vocab_size": 32000, "hf_tokenizer_name": "bert-base-uncased",
            "tokenizer_kwargs": {"strip_sep_token": true}, "width": 512, "heads": 8, "layers": 12}"#;
        let config: TokenizerConfig = serde_json::from_str(json).unwrap();
        assert_eq!((config.context_length, config.vocab_size), (32, 32_000));
        assert!(config.tokenizer_kwargs.strip_sep_token && config.check().is_ok());
        assert_eq!(
            serde_json::from_str::<TokenizerConfig>("{}").unwrap(),
            TokenizerConfig::default()
        );
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_by_name() {
        let json = r#"{"tokenizer_kwargs": {"reduction_mask": "syntax"}}"#;
        let config: TokenizerConfig = serde_json::from_str(json).unwrap();
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("reduction_mask")
        );
        let config = TokenizerConfig {
            context_length: 0,
            ..Default::default()
        };
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("context_length = 0")
        );
    }
}
