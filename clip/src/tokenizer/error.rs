//! What can go wrong between text and token ids.

use std::path::{Path, PathBuf};

/// An error of [`Tokenizer`](super::Tokenizer); every message names the file or value and the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A tokenizer file that could not be read.
    #[error(
        "cannot read {path}: {source}; a model directory needs its tokenizer.json, its vocab.json with merges.txt, or its vocab.txt"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A tokenizer file that could not be written.
    #[error("cannot write {path}: {source}; check that the directory exists and is writable")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file that is not what its name says.
    #[error(
        "{path} is not a usable tokenizer file: {reason}; copy it again from the model's source"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser met.
        reason: String,
    },
    /// A configuration field with a value that is not supported.
    #[error("tokenizer configuration: {field} = {value} is not supported; {remedy}")]
    Unsupported {
        /// Name of the field as in the JSON file.
        field: &'static str,
        /// Its value.
        value: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A special token that the configuration asks for and the vocabulary lacks.
    #[error("{path} has no token {token:?}; correct {role} in tokenizer_config.json beside it")]
    MissingToken {
        /// The tokenizer file.
        path: PathBuf,
        /// The spelling looked for.
        token: String,
        /// What it is for, such as "pad_token".
        role: String,
    },
    /// An id that the text tower has no embedding for.
    #[error(
        "{path} makes the id {id}, but the model has vocab_size {vocab_size}; \
         this tokenizer belongs to another model"
    )]
    Vocabulary {
        /// The tokenizer file.
        path: PathBuf,
        /// The id.
        id: i32,
        /// Rows of the model's token embedding.
        vocab_size: usize,
    },
    /// A text that the tokenizer of a `tokenizer.json` refused.
    #[error("cannot tokenize {text:?}: {reason}")]
    Encode {
        /// Beginning of the text.
        text: String,
        /// What the tokenizer said.
        reason: String,
    },
}

impl TokenizerError {
    pub(super) fn malformed(path: &Path, reason: impl ToString) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn encode(text: &str, reason: impl ToString) -> Self {
        Self::Encode {
            text: text.chars().take(60).collect(),
            reason: reason.to_string(),
        }
    }
}

/// Reads a text file, naming it in the error.
pub(super) fn read_text(path: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(path).map_err(|source| TokenizerError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file, naming it in the error.
pub(super) fn write_text(path: &Path, text: &str) -> Result<(), TokenizerError> {
    files::write(path, text.as_bytes()).map_err(|source| TokenizerError::Write {
        path: path.to_owned(),
        source,
    })
}
