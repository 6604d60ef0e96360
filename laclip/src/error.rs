use std::path::{Path, PathBuf};

/// What can go wrong while captions are rewritten.
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
    /// A file whose content is not what its place promises.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The output exists, and nothing was said about going on with it.
    #[error("{path}: exists already; resume it, or name another output")]
    OutputExists {
        /// The output.
        path: PathBuf,
    },
    /// The output was begun with other settings.
    #[error(
        "{path}: was begun with other settings, so its lines would not go together:\n{differences}\n\
         use the old settings, or name another output"
    )]
    OtherRun {
        /// The output.
        path: PathBuf,
        /// What differs, one line each.
        differences: String,
    },
    /// Options that contradict each other.
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
    /// The language model failed.
    #[error(transparent)]
    Model(#[from] llm::Error),
}

impl Error {
    /// The option that cannot be used and why, if that is the error: for programs that call it otherwise.
    pub fn option(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Option { option, reason } => Some((*option, reason)),
            Self::Model(error) => error.option(),
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
