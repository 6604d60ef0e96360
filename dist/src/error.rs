//! What can go wrong between processes.

/// Error of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A replica has ended while others wait for it.
    #[error("replica {rank} has ended; its own message says why")]
    Gone {
        /// Its rank.
        rank: usize,
    },
    /// Replicas laid things on the table that do not go together.
    #[error("replica {rank} gave {found} {what} where replica 0 gave {expected}")]
    Uneven {
        /// The first replica that differs.
        rank: usize,
        /// What was counted.
        what: &'static str,
        /// Its number.
        found: usize,
        /// That of the first replica.
        expected: usize,
    },
    /// What carries the messages refused.
    #[error("{0}")]
    Transport(String),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
