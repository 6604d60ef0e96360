use std::path::{Path, PathBuf};

/// What can go wrong, in words that name the file, the value and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file whose content is not what its place promises.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Options that contradict each other.
    #[error("{0}")]
    Options(String),
    /// Of the vision tower.
    #[error(transparent)]
    Clip(#[from] clip::Error),
    /// Of the language model.
    #[error(transparent)]
    Llm(#[from] llm::Error),
    /// Of the captions and their vectors.
    #[error(transparent)]
    Data(#[from] data::DataError),
}

impl Error {
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
