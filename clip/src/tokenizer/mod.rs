//! Text → token ids.
//!
//! ```
//! use clip::tokenizer::Tokenizer;
//!
//! let tokenizer = Tokenizer::clip();
//! assert_eq!(tokenizer.encode("a photo of a cat")?, [49406, 320, 1125, 539, 320, 2368, 49407]);
//! let batch = tokenizer.batch(&["a diagram", "a dog"])?;
//! assert_eq!((batch.n, batch.context_length), (2, 77));
//! # Ok::<(), clip::tokenizer::TokenizerError>(())
//! ```

mod alphabet;
mod bpe;
mod clean;
mod config;
mod error;
mod export;
mod ftfy;
mod html;
mod hugging_face;
mod lengths;
mod special_tokens;
mod split;

use std::path::Path;
use std::sync::Arc;

use burn::prelude::*;
use rayon::prelude::*;

pub use bpe::{END_OF_TEXT_ID, START_OF_TEXT_ID};
pub use clean::Clean;
pub use config::{TokenizerConfig, TokenizerKwargs, TokenizerMode};
pub use error::TokenizerError;
pub use lengths::{check_ids, check_lengths};
pub use split::{END_OF_TEXT, START_OF_TEXT};

use bpe::Bpe;
use hugging_face::HuggingFace;

/// Turns texts into the ids that one model was trained with. Cheap to clone, usable from any
/// thread.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    kind: Kind,
    clean: Clean,
    context_length: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    Clip { specials_in_text: bool },
    HuggingFace(Arc<HuggingFace>),
}

impl Tokenizer {
    /// CLIP's byte-pair encoding with a context of 77 tokens: `[start] text [end] 0 0 ...`.
    pub fn clip() -> Self {
        Self {
            kind: Kind::Clip {
                specials_in_text: true,
            },
            clean: Clean::Lower,
            context_length: 77,
        }
    }

    /// The tokenizer of a `tokenizer.json`, of a BERT `vocab.txt` (file name ending in `.txt`), or
    /// of a directory with one of them. Special tokens are read from the JSON files beside it.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or if `config` asks for what is not supported.
    pub fn from_file(path: &Path, config: &TokenizerConfig) -> Result<Self, TokenizerError> {
        config.check()?;
        Ok(Self {
            kind: Kind::HuggingFace(Arc::new(HuggingFace::load(path, config)?)),
            clean: config.tokenizer_kwargs.clean.unwrap_or(Clean::Whitespace),
            context_length: config.context_length,
        })
    }

    /// The tokenizer of a model directory: CLIP's unless the configuration names another one
    /// (`hf_tokenizer_name`), whose files are then read from `dir`. This is open_clip's rule.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::from_file`].
    pub fn from_config(config: &TokenizerConfig, dir: &Path) -> Result<Self, TokenizerError> {
        if config
            .hf_tokenizer_name
            .as_ref()
            .is_some_and(|name| !name.is_empty())
        {
            return Self::from_file(dir, config);
        }
        config.check()?;
        if config.vocab_size <= END_OF_TEXT_ID as usize {
            return Err(TokenizerError::Unsupported {
                field: "vocab_size",
                value: config.vocab_size.to_string(),
                remedy: "CLIP's vocabulary needs 49408; name the model's own with hf_tokenizer_name",
            });
        }
        let clean = config.tokenizer_kwargs.clean.unwrap_or_default();
        Ok(Self {
            clean,
            context_length: config.context_length,
            ..Self::clip()
        })
    }

    /// Sets the tokens per row.
    ///
    /// # Errors
    ///
    /// If the special tokens alone fill `context_length`.
    pub fn with_context_length(mut self, context_length: usize) -> Result<Self, TokenizerError> {
        let least = match &self.kind {
            Kind::Clip { .. } => 1,
            Kind::HuggingFace(inner) => inner.specials() + 1,
        };
        if context_length < least {
            return Err(TokenizerError::Unsupported {
                field: "context_length",
                value: context_length.to_string(),
                remedy: "the special tokens alone need more",
            });
        }
        if let Kind::HuggingFace(inner) = &mut self.kind {
            Arc::make_mut(inner).truncate_to(context_length);
        }
        self.context_length = context_length;
        Ok(self)
    }

    /// Sets what happens to a text before it is tokenized.
    pub fn with_clean(mut self, clean: Clean) -> Self {
        self.clean = clean;
        self
    }

    /// Takes `<start_of_text>` and `<end_of_text>` inside a text for plain text. By default they
    /// become the special tokens, as in open_clip, and the first `<end_of_text>` then ends the text
    /// for the model.
    ///
    /// Concerns [`Tokenizer::clip`] only.
    pub fn with_specials_as_text(mut self) -> Self {
        if let Kind::Clip { specials_in_text } = &mut self.kind {
            *specials_in_text = false;
        }
        self
    }

    /// Tokens per row.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Number of tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            Kind::Clip { .. } => END_OF_TEXT_ID as usize + 1,
            Kind::HuggingFace(inner) => inner.vocab_size(),
        }
    }

    /// Id that fills a row behind its text. For CLIP this is 0, which is also the token `!`.
    pub fn pad_id(&self) -> i32 {
        match &self.kind {
            Kind::Clip { .. } => 0,
            Kind::HuggingFace(inner) => inner.pad_id(),
        }
    }

    /// Ids of one text with its special tokens, cut to the context length, without padding.
    ///
    /// # Errors
    ///
    /// Never for CLIP's vocabulary; for others if the text becomes an id that the model has no
    /// embedding for.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, TokenizerError> {
        let text = self.clean.apply(text);
        match &self.kind {
            Kind::HuggingFace(inner) => inner.encode(&text, self.context_length),
            Kind::Clip { specials_in_text } => {
                let mut ids = Vec::with_capacity(self.context_length.min(128));
                ids.push(START_OF_TEXT_ID);
                Bpe::shared().encode(&text, *specials_in_text, self.context_length, &mut ids);
                // The end always stays: a tower that pools at it has nowhere else to look.
                ids.truncate(self.context_length - 1);
                ids.push(END_OF_TEXT_ID);
                Ok(ids)
            }
        }
    }

    /// Whether [`Tokenizer::encode`] cuts this text: it has more tokens of its own than fit beside the special ones.
    ///
    /// # Errors
    ///
    /// If the tokenizer cannot read the text.
    pub fn is_truncated(&self, text: &str) -> Result<bool, TokenizerError> {
        let text = self.clean.apply(text);
        match &self.kind {
            Kind::HuggingFace(inner) => inner.is_truncated(&text, self.context_length),
            Kind::Clip { specials_in_text } => {
                let mut ids = vec![START_OF_TEXT_ID];
                Bpe::shared().encode(&text, *specials_in_text, self.context_length, &mut ids);
                Ok(ids.len() >= self.context_length)
            }
        }
    }

    /// Ids of a text alone: without special tokens, and not cut.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn pieces(&self, text: &str) -> Result<Vec<i32>, TokenizerError> {
        let text = self.clean.apply(text);
        match &self.kind {
            Kind::HuggingFace(inner) => inner.pieces(&text),
            Kind::Clip { specials_in_text } => {
                let mut ids = Vec::new();
                Bpe::shared().encode(&text, *specials_in_text, usize::MAX, &mut ids);
                Ok(ids)
            }
        }
    }

    /// A full row of ids around pieces of a text: cut, opened, closed and filled as [`Tokenizer::batch`] does it.
    ///
    /// # Errors
    ///
    /// If the tokenizer is neither CLIP's nor framed as CLIPS' is: what frames its texts then takes texts, not pieces.
    pub fn frame(&self, pieces: &[i32]) -> Result<Vec<i32>, TokenizerError> {
        let Some(Frame { start, end, class }) = self.frame_ids() else {
            return Err(TokenizerError::Unsupported {
                field: "tokenizer_mode",
                value: "null".to_owned(),
                remedy: "pieces of a text are framed by CLIP's tokenizer, or with tokenizer_mode = \"clips\"",
            });
        };
        let room = (self.context_length).saturating_sub(2 + usize::from(class.is_some()));
        let mut row = Vec::with_capacity(self.context_length);
        row.push(start);
        row.extend(pieces.iter().take(room));
        row.push(end);
        row.resize(self.context_length, self.pad_id());
        if let (Some(class), Some(last)) = (class, row.last_mut()) {
            *last = class;
        }
        Ok(row)
    }

    /// The ids that open and close a text and the one at the end of its row; `None` where a post-processor frames texts.
    pub fn frame_ids(&self) -> Option<Frame> {
        match &self.kind {
            Kind::Clip { .. } => Some(Frame {
                start: START_OF_TEXT_ID,
                end: END_OF_TEXT_ID,
                class: None,
            }),
            Kind::HuggingFace(inner) => inner.frame_ids(),
        }
    }

    /// Rows of ids for many texts, in parallel.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<TokenBatch, TokenizerError> {
        let context_length = self.context_length;
        let class = match &self.kind {
            Kind::Clip { .. } => None,
            Kind::HuggingFace(inner) => inner.class_id(),
        };
        let mut ids = vec![self.pad_id(); texts.len() * context_length];
        let rows = ids.par_chunks_exact_mut(context_length).zip(texts);
        rows.try_for_each(|(row, text)| {
            let ids = self.encode(text.as_ref())?;
            row[..ids.len()].copy_from_slice(&ids);
            if let (Some(class), Some(last)) = (class, row.last_mut()) {
                *last = class;
            }
            Ok(())
        })?;
        Ok(TokenBatch {
            ids,
            n: texts.len(),
            context_length,
        })
    }

    /// Text of ids, special tokens included. Cleaning is not undone.
    pub fn decode(&self, ids: &[i32]) -> String {
        match &self.kind {
            Kind::Clip { .. } => Bpe::shared().decode(ids),
            Kind::HuggingFace(inner) => inner.decode(ids),
        }
    }

    /// Writes the files by which Hugging Face's libraries load this tokenizer into an existing
    /// directory.
    ///
    /// # Errors
    ///
    /// If the directory is missing or not writable.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        match &self.kind {
            Kind::Clip { .. } => export::save(Bpe::shared(), dir, self.context_length),
            Kind::HuggingFace(inner) => inner.save(dir),
        }
    }
}

/// The special tokens around a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Opens a text.
    pub start: i32,
    /// Closes it.
    pub end: i32,
    /// Stands at the last position of the row, behind the padding.
    pub class: Option<i32>,
}

/// Rows of token ids, `[n, context_length]` row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    /// The ids.
    pub ids: Vec<i32>,
    /// Number of texts.
    pub n: usize,
    /// Tokens per text.
    pub context_length: usize,
}

impl TokenBatch {
    /// The rows, one per text.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[i32]> {
        self.ids.chunks_exact(self.context_length)
    }

    /// The first `length` positions of each row, or all where there are fewer.
    pub(crate) fn cut(self, length: usize) -> Self {
        if length >= self.context_length {
            return self;
        }
        let rows = self.rows().flat_map(|row| &row[..length]);
        Self {
            ids: rows.copied().collect(),
            n: self.n,
            context_length: length,
        }
    }

    /// Moves the ids to a device; [`TextTower::trim`](crate::text::TextTower::trim) leaves out before what no embedding depends on.
    ///
    /// # Shapes
    ///
    /// - output: `[n, context_length]`
    pub fn to_tensor<B: Backend>(self, device: &B::Device) -> Tensor<B, 2, Int> {
        let shape = [self.n, self.context_length];
        kernels::ids(&self.ids, shape, device)
            .unwrap_or_else(|| Tensor::from_data(TensorData::new(self.ids, shape), device))
    }
}

#[cfg(test)]
mod tests;
