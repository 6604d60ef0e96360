//! The stored text embeddings of one sample, wherever they lie.

use crate::error::DataError;
use crate::store::StoreRow;
use crate::webdataset::ShardEmbeddings;

/// Stored vectors of the captions of one sample, by the names of the captions. Only those that are asked for are read.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredEmbeddings {
    /// Members of a sibling shard, as LLM2CLIP stores them.
    Shard(ShardEmbeddings),
    /// A row of a [`Store`](crate::store::Store).
    Store(StoreRow),
}

impl StoredEmbeddings {
    /// The captions that have one.
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Self::Shard(shard) => shard.fields().collect(),
            Self::Store(row) => row.fields().collect(),
        }
    }

    /// Reads the vector of one caption; upper or lower case does not matter.
    ///
    /// # Errors
    ///
    /// Fails if there is none, if the file changed since it was opened, and if a number is not finite.
    pub fn read(&self, field: &str) -> Result<Vec<f32>, DataError> {
        match self {
            Self::Shard(shard) => shard.read(field),
            Self::Store(row) => row.read(field),
        }
    }
}
