//! The file of embeddings that `embed` writes, in one go or in shares that are put together.
//!
//! A file that was merged equals the one that a single process writes, to the last bit: shares hold whole batches of the
//! whole list ([`Shard::batches`]), so that every row has the neighbours that it would have had; [`merge()`] copies rows as
//! they are; and the header has one order.

mod merge;
mod share;
mod write;

pub use merge::{Merged, merge};
pub use share::{ShareNote, Work, list_digest};
pub use write::Embedded;

pub use files::Shard;

#[cfg(test)]
mod tests;
