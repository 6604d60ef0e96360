//! What can go wrong while training, in words that name the file, the value and the remedy.

use crate::fault::Fault;
use crate::feed::place::Place;
use std::path::{Path, PathBuf};

/// Error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe cannot be used.
    #[error("recipe {}: {message}", path.display())]
    Recipe {
        /// The recipe file.
        path: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A value of the recipe makes no sense.
    #[error("{0}")]
    Config(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A checkpoint is damaged, or belongs to another model or another recipe.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What is wrong and what can be done.
        message: String,
        /// How the run gets past it, where starting it otherwise is enough.
        remedy: Option<Remedy>,
    },
    /// The last checkpoint could not be written.
    #[error(
        "writing the last checkpoint: {source}; earlier ones are intact: make room and resume from the latest"
    )]
    LastCheckpoint {
        /// The cause.
        source: Box<TrainError>,
    },
    /// The device can no longer be trusted.
    #[error("{fault}{}", advice(fault, *pairs, *accumulate))]
    Device {
        /// What happened.
        fault: Fault,
        /// Samples of the batch that was at work; 0 outside training.
        pairs: usize,
        /// Batches per step.
        accumulate: usize,
    },
    /// Losses or gradients stopped being numbers.
    #[error("{message}")]
    NonFinite {
        /// What was found and what can be done.
        message: String,
        /// How the run gets past it.
        remedy: Remedy,
    },
    /// The stream of batches ended or failed.
    #[error("reading a batch (epoch {}, sample {}): {source}", place.epoch, place.sample)]
    Batch {
        /// Where the batch begins.
        place: Place,
        /// The cause.
        source: BoxError,
    },
    /// The replicas lost each other.
    #[error(transparent)]
    Replica(#[from] dist::Error),
    /// Another replica failed and said so.
    #[error("replica {rank} failed: {message}")]
    OtherReplica {
        /// Its rank.
        rank: usize,
        /// What it said.
        message: String,
    },
    /// A method's own part (collation, export, validation) failed.
    #[error("{what}: {source}")]
    Task {
        /// Which part.
        what: &'static str,
        /// The cause.
        source: BoxError,
    },
}

/// Error of code that this crate calls and does not know.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Result of this crate.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// How a run that ended with an error is started to get past it. The error says the same in words; programs whose options
/// have other names say it in theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remedy {
    /// At its latest checkpoint: [`Start::Latest`](crate::Start::Latest).
    pub resume: bool,
    /// With [`Launch::accept_changes`](crate::Launch::accept_changes).
    pub accept_changes: bool,
    /// With this override of the recipe, `table.field=value`.
    pub set: Option<&'static str>,
}

impl Remedy {
    /// Resuming as it is.
    pub(crate) const RESUME: Self = Self {
        resume: true,
        accept_changes: false,
        set: None,
    };
}

/// What to do about a fault.
fn advice(fault: &Fault, pairs: usize, accumulate: usize) -> String {
    match fault {
        Fault::OutOfMemory { .. } if pairs > 1 => format!(
            " in a batch of {pairs}. Try data.loader.batch_size = {} with run.accumulate = {}, which gives the same \
             gradient, or run.replay = true",
            pairs / 2,
            2 * accumulate
        ),
        Fault::OutOfMemory { .. } => "; use a smaller batch size".into(),
        Fault::Kernel { .. } => {
            "; what was computed since cannot be trusted. Checkpoints written before are intact: resume from the latest".into()
        }
    }
}

impl TrainError {
    /// Wraps an I/O error with the path it happened at.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
        let path = path.to_path_buf();
        move |source| TrainError::Io { path, source }
    }

    /// An error about a checkpoint folder.
    pub fn checkpoint(path: &Path, message: impl Into<String>) -> TrainError {
        TrainError::Checkpoint {
            path: path.to_path_buf(),
            message: message.into(),
            remedy: None,
        }
    }

    /// How the run is started to get past this error, where that is all it takes.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Checkpoint { remedy, .. } => *remedy,
            Self::NonFinite { remedy, .. } => Some(*remedy),
            Self::LastCheckpoint { .. } => Some(Remedy::RESUME),
            Self::Device {
                fault: Fault::Kernel { .. },
                ..
            } => Some(Remedy::RESUME),
            _ => None,
        }
    }

    /// The same error about a checkpoint, with the way past it.
    pub(crate) fn with_remedy(mut self, way: Remedy) -> Self {
        if let Self::Checkpoint { remedy, .. } = &mut self {
            *remedy = Some(way);
        }
        self
    }
}
