//! The JSON files beside a tokenizer that name its special tokens.

use std::path::Path;

use serde_json::{Map, Value};

use super::TokenizerError;
use super::error::read_text;

/// The special tokens that the files beside a tokenizer name.
pub(super) struct SpecialTokens<'a> {
    path: &'a Path,
    tokenizer: &'a tokenizers::Tokenizer,
    /// The fields of both files.
    pub fields: Map<String, Value>,
}

impl<'a> SpecialTokens<'a> {
    pub fn beside(
        path: &'a Path,
        tokenizer: &'a tokenizers::Tokenizer,
    ) -> Result<Self, TokenizerError> {
        let mut fields = Map::new();
        // The second file wins: it is the one that is always there and up to date.
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let file = path.with_file_name(name);
            if file.is_file() {
                let json = serde_json::from_str::<Map<String, Value>>(&read_text(&file)?);
                let json = json.map_err(|e| TokenizerError::malformed(&file, e))?;
                fields.extend(json.into_iter().filter(|(_, value)| !value.is_null()));
            }
        }
        Ok(Self {
            path,
            tokenizer,
            fields,
        })
    }

    /// Id of the token that a field such as `pad_token` names.
    pub fn id(&self, field: &str) -> Result<Option<i32>, TokenizerError> {
        let Some(value) = self.fields.get(field) else {
            return Ok(None);
        };
        // Either the spelling itself or an object with its `content`.
        let Some(token) = value.as_str().or_else(|| value.get("content")?.as_str()) else {
            return Ok(None);
        };
        match self.tokenizer.token_to_id(token) {
            Some(id) => Ok(Some(id as i32)),
            None => Err(self.missing(token, field)),
        }
    }

    pub fn missing(&self, token: &str, role: &str) -> TokenizerError {
        let (path, token, role) = (self.path.to_owned(), token.to_owned(), role.to_owned());
        TokenizerError::MissingToken { path, token, role }
    }
}
