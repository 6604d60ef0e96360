//! What can go wrong with data on disk, said so that the reader knows which file to look at.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

// A circle on purpose: an error quotes the problems of a source, and a problem names places as errors do.
use crate::problem::Problem;

/// An error of this crate. Every message names the file, the place inside it and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The built-in world cannot be made.
    #[error(transparent)]
    Scenes(#[from] crate::scenes::ScenesError),
    /// The operating system refused to open or read a file.
    #[error("{}: {source}; check that the path is right and readable", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was read but is not what it should be.
    #[error("{}{place}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        place: Place,
        /// What is wrong and how to mend it.
        what: String,
    },
    /// A shard pattern that cannot be expanded.
    #[error("shard pattern `{pattern}`: {what}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong and how to mend it.
        what: String,
    },
    /// A shard from elsewhere that did not come.
    #[error("{name}: {what}")]
    Fetch {
        /// The address or the command.
        name: String,
        /// What happened, and what to do.
        what: String,
    },
    /// A configuration that contradicts itself.
    #[error("{0}")]
    Config(String),
    /// More of a source is unusable than its `max_bad` allows.
    #[error(
        "{name}: {bad} of {total} {unit} are unusable, more than max_bad = {max_bad} allows; \
         the first: {first}. Mend the data or raise max_bad"
    )]
    TooManyBad {
        /// Name of the source.
        name: String,
        /// How many are unusable.
        bad: usize,
        /// Out of how many.
        total: usize,
        /// What is counted: shards, samples, rows.
        unit: &'static str,
        /// The configured share.
        max_bad: f64,
        /// The first problem that was met.
        first: Box<Problem>,
    },
    /// An index past the end of a source.
    #[error("{name}: sample {index} was asked for, but there are only {len}")]
    OutOfRange {
        /// Name of the source.
        name: String,
        /// The index asked for.
        index: usize,
        /// Samples in the source.
        len: usize,
    },
    /// The loader met too many unreadable samples.
    #[error(
        "{name}: {bad} of the first {seen} samples of this run were unreadable, more than \
         max_bad = {max_bad} allows; the latest: {latest}. {}",
        if bad == seen { "None could be read: is the `root` of the source right?" } else { "Mend the data or raise max_bad" }
    )]
    TooManyUnreadable {
        /// Name of the source.
        name: String,
        /// Unreadable samples so far.
        bad: usize,
        /// Samples tried so far.
        seen: usize,
        /// The configured share.
        max_bad: f64,
        /// Why the latest one could not be used.
        latest: String,
    },
    /// The caller's `prepare` or `collate` refused a batch.
    #[error("the batch from sample {position} of epoch {epoch} on: {what}")]
    Collate {
        /// Epoch, from 0.
        epoch: u64,
        /// Position of the batch's first sample in the epoch of this process.
        position: usize,
        /// The caller's message.
        what: String,
    },
    /// A loader thread panicked.
    #[error("a loader thread panicked: {0}. This is a bug in `collate`")]
    WorkerPanicked(String),
}

impl DataError {
    /// Wraps an [`io::Error`] with the file it is about.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, place: Place, what: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_path_buf(),
            place,
            what: what.into(),
        }
    }
}

/// A place inside a file, for messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The file as a whole.
    Whole,
    /// A member of an archive.
    Member(String),
    /// A line of a text file, from 1.
    Line(u64),
    /// A row of a file of columns, from 0.
    Row(u64),
    /// A byte offset, from 0.
    Byte(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Member(name) => write!(f, ", member {name}"),
            Self::Line(line) => write!(f, ", line {line}"),
            Self::Row(row) => write!(f, ", row {row}"),
            Self::Byte(byte) => write!(f, ", byte {byte}"),
        }
    }
}
