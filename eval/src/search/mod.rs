//! Search among stored image embeddings: an index on disk, and an exact scan over all of it.
//!
//! * [`Index`]: the file that `embed` writes, which may also know its model and the state of every image file
//! * [`Update`]: what has changed on disk since an index was written, and the index that follows from it
//! * [`nearest`]: the highest cosines of every query, over all rows

mod index;
mod scan;
mod top;
mod update;

pub use index::{Index, IndexModel, Stamp};
pub use scan::nearest;
pub use top::Hit;
pub use update::{Changes, Update};
