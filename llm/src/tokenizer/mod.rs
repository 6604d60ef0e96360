//! Text ↔ token ids: any `tokenizer.json`, and SentencePiece's `tokenizer.model`.

mod save;
mod sentence_piece;
mod train;
mod wire;

pub use train::SPECIAL;

use crate::error::{Error, Result};
use clip::tokenizer::check_lengths;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Text ↔ token ids of one model.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// Takes all of a text for text.
    inner: tokenizers::Tokenizer,
    /// The same with eyes for the special tokens that a text spells; made when first asked for.
    parsing: Arc<OnceLock<tokenizers::Tokenizer>>,
    path: PathBuf,
    /// `tokenizer_config.json`, where there is one.
    config: Value,
    bos: Option<u32>,
    eos: Vec<u32>,
}

/// What a call of the `tokenizers` crate gives. It relies on some of what a file says, and panics where that is untrue.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err("the file contradicts itself".into()))
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model directory, or else `tokenizer.model`, which Meta keeps one folder up.
    ///
    /// `bos` is the id that begins a text, if `tokenizer_config.json` says nothing else.
    ///
    /// # Errors
    ///
    /// Names the file that is missing or unusable.
    pub fn from_directory(directory: &Path, bos: Option<u32>) -> Result<Self> {
        let json = directory.join("tokenizer.json");
        if json.is_file() {
            return Self::from_json(&json, bos);
        }
        let beside = directory.join("tokenizer.model");
        let above = directory.join("..").join("tokenizer.model");
        match [beside, above].into_iter().find(|path| path.is_file()) {
            Some(path) => Self::from_sentence_piece(&path),
            None => Err(Error::format(
                directory,
                "no tokenizer: neither tokenizer.json nor tokenizer.model is here",
            )),
        }
    }

    /// Reads a `tokenizer.json`, and `tokenizer_config.json` beside it for the token that begins a text.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it.
    pub fn from_json(path: &Path, bos: Option<u32>) -> Result<Self> {
        let wrong = |problem: String| Error::format(path, format!("not a tokenizer: {problem}"));
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        check_lengths(&text).map_err(wrong)?;
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(&text))
            .map_err(|error| wrong(error.to_string()))?;
        // Before a text is encoded: a file may fill rows to any length.
        inner.with_padding(None);
        let _ = inner.with_truncation(None); // fails only for a stride
        let config = path.with_file_name("tokenizer_config.json");
        let named = match config.is_file() {
            true => crate::json::read_json(&config)?,
            false => Value::Null,
        };
        let id = |field: &str| {
            let token = &named[field];
            let token = token.as_str().or_else(|| token["content"].as_str())?;
            inner.token_to_id(token)
        };
        let (mut bos, eos) = (id("bos_token").or(bos), id("eos_token"));
        // The flag counts only where the tokenizer itself does not add the token.
        let added = guarded(|| inner.encode_fast("", true));
        let added = added.is_ok_and(|ids| ids.get_ids().first().copied() == bos);
        if named["add_bos_token"] == Value::Bool(false) && !added {
            bos = None;
        }
        let mut tokenizer = Self::new(inner, path, bos, eos.into_iter().collect());
        tokenizer.config = named;
        Ok(tokenizer)
    }

    /// Reads a SentencePiece model of Llama 1 or 2.
    ///
    /// # Errors
    ///
    /// Names the file and what in it is not supported.
    pub fn from_sentence_piece(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let model =
            sentence_piece::Model::parse(&bytes).map_err(|problem| Error::format(path, problem))?;
        let (bos, eos) = (model.bos, model.eos);
        let inner = model
            .into_tokenizer()
            .map_err(|problem| Error::format(path, problem))?;
        Ok(Self::new(inner, path, bos, eos.into_iter().collect()))
    }

    fn new(mut inner: tokenizers::Tokenizer, path: &Path, bos: Option<u32>, eos: Vec<u32>) -> Self {
        // `</s>` in somebody's text is text.
        inner.set_encode_special_tokens(true);
        Self {
            inner,
            parsing: Arc::default(),
            path: path.into(),
            config: Value::Null,
            bos,
            eos,
        }
    }

    /// Ids of a text after the id that begins one. Special tokens that the text spells are text.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        ids.extend(self.ids(text)?);
        Ok(ids)
    }

    /// Ids of a text alone. Special tokens that the text spells are text: what a user writes cannot end a turn.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        self.run(&self.inner, text)
    }

    /// Ids of a text alone, in which the names of special tokens stand for those tokens: for templates.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn parse(&self, text: &str) -> Result<Vec<u32>> {
        let parsing = self.parsing.get_or_init(|| {
            let mut parsing = self.inner.clone();
            parsing.set_encode_special_tokens(false);
            parsing
        });
        self.run(parsing, text)
    }

    fn run(&self, tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(|| tokenizer.encode_fast(text, false)).map_err(|error| {
            let text = text.chars().take(60).collect();
            let problem = format!("{}: {error}", self.path.display());
            Error::Encode { text, problem }
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Id of a special token by its name, like `<|eot_id|>`. None for anything else, even if it is in the vocabulary.
    pub fn special(&self, name: &str) -> Option<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let id = self.inner.token_to_id(name)?;
        added.get(&id).filter(|token| token.special).map(|_| id)
    }

    /// Ids of all special tokens, in order.
    pub fn special_ids(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added.into_iter().filter(|(_, token)| token.special);
        let mut ids: Vec<u32> = special.map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Text of ids, without special tokens. Bytes that are no UTF-8 become replacement characters.
    pub fn decode(&self, ids: &[u32]) -> String {
        guarded(|| self.inner.decode(ids, true)).unwrap_or_default()
    }

    /// Id that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Ids that end a text, as far as the tokenizer's files say.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_begins_as_the_files_say() {
        let folder = tempfile::tempdir().unwrap();
        let trained = Tokenizer::train(&["some words of a text"], 300).unwrap();
        let first = |more: &str| {
            let config = format!("{{\"bos_token\": \"<|begin_of_text|>\"{more}}}");
            std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
            let read = Tokenizer::from_directory(folder.path(), None).unwrap();
            assert_eq!(
                read.bos(),
                read.encode("text")
                    .unwrap()
                    .first()
                    .copied()
                    .filter(|id| *id == 0)
            );
            read.bos()
        };
        let json = trained.inner.to_string(false).unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        assert_eq!(first(""), Some(0));
        assert_eq!(first(", \"add_bos_token\": true"), Some(0));
        assert_eq!(first(", \"add_bos_token\": false"), None);
        // A tokenizer that adds the token itself does so whatever the flag says, in transformers too.
        trained.save(folder.path()).unwrap();
        assert_eq!(first(", \"add_bos_token\": false"), Some(0));
    }
}
