use crate::preprocess::ImageError;
use crate::tokenizer::TokenizerError;
use std::path::PathBuf;

/// What can go wrong between a file and a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration that we cannot build.
    #[error("model configuration: {0}")]
    Config(String),
    /// A file whose content is not what its place promises.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Weights that do not fit the model.
    #[error("{path}: the weights do not fit the model\n{report}")]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// Names of the tensors that are missing, left over or of another shape.
        report: String,
    },
    /// The model's name leads nowhere.
    #[error("{0}")]
    NotFound(String),
    /// A model of the hub that could not be had.
    #[error("hf-hub:{name}: {problem}")]
    Hub {
        /// The model.
        name: String,
        /// What went wrong and what to do.
        problem: String,
    },
    /// An image that could not be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A tokenizer that could not be built.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Format {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
