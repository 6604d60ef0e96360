//! What can go wrong while evaluating. Messages name the file, the value and the remedy.

use std::path::{Path, PathBuf};

/// Everything that the crate's functions return on failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file or directory could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not of the format that was asked for.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        reason: String,
    },
    /// What `data` reads is damaged or missing.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// A data set is incomplete or contradicts itself.
    #[error("data set {dataset}: {reason}")]
    Dataset {
        /// Name of the data set.
        dataset: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More images were unreadable than the run allows.
    #[error(
        "{bad} of {total} images could not be read, {max_bad} allowed; raise max_bad to skip them. \
         First: {first}"
    )]
    BadImages {
        /// Unreadable images.
        bad: usize,
        /// All images.
        total: usize,
        /// How many may be bad.
        max_bad: usize,
        /// The first unreadable image, with the reason.
        first: String,
    },
    /// Embeddings that do not fit together or are not numbers.
    #[error("features: {0}")]
    Features(String),
    /// Class names or templates that do not fit the data set.
    #[error("prompts: {0}")]
    Prompts(String),
    /// The encoder refused its input.
    #[error("encoder: {0}")]
    Encoder(String),
    /// An option has a value that makes no sense.
    #[error("{option}: {reason}")]
    Option {
        /// Name of the field; on the command line an option with dashes.
        option: &'static str,
        /// Why the value is refused.
        reason: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, EvalError>;

impl EvalError {
    /// Wraps an I/O error with the path that it concerns.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    /// A file of another schema.
    pub fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format {
            path: path.into(),
            reason: reason.into(),
        }
    }

    /// Labels that go beyond the class names.
    pub(crate) fn too_few_names(dataset: &str, needed: usize, names: usize) -> Self {
        let reason = format!(
            "labels need {needed} classes, {names} class names were given; give as many (classnames)"
        );
        Self::dataset(dataset, reason)
    }

    /// A data set that cannot be used.
    pub fn dataset(dataset: &str, reason: impl Into<String>) -> Self {
        Self::Dataset {
            dataset: dataset.into(),
            reason: reason.into(),
        }
    }
}
