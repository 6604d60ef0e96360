use std::path::{Path, PathBuf};

/// What can go wrong between a model directory and a generated text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or directory whose content is not what its place promises, or is not supported.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Options that contradict each other or the model.
    #[error("{0}")]
    Options(String),
    /// An option with a value that cannot be used.
    #[error("{option}: {reason}")]
    Option {
        /// Its name, a field of this crate.
        option: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A text that the tokenizer cannot turn into ids of the model.
    #[error("cannot tokenize `{text}`: {problem}")]
    Encode {
        /// Start of the text.
        text: String,
        /// Why.
        problem: String,
    },
    /// Logits that are not numbers.
    #[error(
        "the model's logits are not finite at position {position}: \
         the weights are damaged, or bf16 is too coarse for them (try f32 as the precision)"
    )]
    NotFinite {
        /// Index of the token that was fed.
        position: usize,
    },
    /// Weights that could not be read or do not fit.
    #[error(transparent)]
    Weights(#[from] clip::Error),
}

impl Error {
    /// The option that cannot be used and why, if that is the error: for programs that call it otherwise.
    pub fn option(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Option { option, reason } => Some((*option, reason)),
            _ => None,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: &Path, problem: impl Into<String>) -> Self {
        Self::Format {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
