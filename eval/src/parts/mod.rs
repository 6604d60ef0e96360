//! Embeddings of more rows than fit into memory, in parts, in the folders and under the names that clip-retrieval gives them:
//!
//! | file | holds |
//! |---|---|
//! | `img_emb/img_emb_0.npy` | embeddings of the images of part 0, `[rows, embed_dim]` |
//! | `text_emb/text_emb_0.npy` | those of their captions |
//! | `metadata/metadata_0.parquet` | `image_path`, `caption`, `key`, `url`: those that are known |
//! | `parts/part_0.json` | what the part was made of, and what was left out |
//!
//! Row `i` of the three is one image with its caption. A part is whole when its note in `parts/` is there: a run that was
//! killed makes only the parts anew that have none.

mod layout;
mod note;
mod read;
mod rows;
mod run;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use layout::metadata_of;
pub use layout::{IMAGES, Layout, METADATA, TEXTS};
pub use note::PartNote;
pub use rows::{Row, Rows};
pub use run::{Outcome, Settings, check, embed};
