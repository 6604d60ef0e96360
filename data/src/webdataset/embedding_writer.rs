//! Writing the shards that [`EmbeddingShards`](super::EmbeddingShards) reads.

use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::DataError;
use crate::store::Row;

/// Writes a tar with a member `KEY.FIELD` for every caption of every row: the numbers of its vector as little-endian f32
/// without a header, as LLM2CLIP's `extract_embedding.py` does. It appears whole or not at all; equal vectors give equal
/// bytes.
///
/// `vectors` has a slice for each caption that is there, row by row and in the order of `fields`.
///
/// # Errors
///
/// When the file cannot be written.
///
/// # Panics
///
/// If there are fewer vectors than captions.
pub fn write_embeddings<'a>(
    path: &Path,
    fields: &[String],
    rows: &[Row],
    vectors: impl IntoIterator<Item = &'a [f32]>,
) -> Result<(), DataError> {
    let mut vectors = vectors.into_iter();
    let written = files::write_by(path, |file| {
        let mut shard = tar::Builder::new(BufWriter::new(file));
        for row in rows {
            for (field, _) in fields
                .iter()
                .zip(&row.captions)
                .filter(|(_, c)| c.is_some())
            {
                let vector = vectors.next().expect("a vector for each caption");
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                // No owner and no time, so that equal vectors give equal files.
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                shard.append_data(
                    &mut header,
                    format!("{}.{field}", row.key),
                    bytes.as_slice(),
                )?;
            }
        }
        shard.into_inner()?.flush()
    });
    written.map_err(|error| DataError::io(path, error))
}

#[cfg(test)]
mod tests {
    use super::super::{IndexCache, ShardConfig, ShardSource};
    use super::*;
    use crate::source::Source;
    use std::fs::File;

    #[test]
    fn a_written_sibling_is_read_back_and_a_caption_that_is_not_there_has_no_member() {
        let folder = tempfile::tempdir().unwrap();
        let mut shard = tar::Builder::new(File::create(folder.path().join("0.tar")).unwrap());
        for name in ["a.jpg", "a.txt", "b.jpg", "b.txt"] {
            let mut header = tar::Header::new_ustar();
            header.set_size(1);
            shard.append_data(&mut header, name, &b"x"[..]).unwrap();
        }
        shard.into_inner().unwrap();
        let row = |key: &str, captions: [bool; 2]| Row {
            key: key.into(),
            captions: captions.map(|there| there.then(String::new)).to_vec(),
        };
        let fields = ["shortSV_captions", "longSV_captions"].map(String::from);
        let sibling = folder.path().join("0_text_embeddings.tar");
        let rows = [row("a", [true, true]), row("b", [true, false])];
        let vectors = [[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
        write_embeddings(
            &sibling,
            &fields,
            &rows,
            vectors.iter().map(<[f32; 2]>::as_slice),
        )
        .unwrap();
        let config = ShardConfig {
            shards: folder.path().join("0.tar").display().to_string(),
            embeddings: Some(Default::default()),
            index_cache: IndexCache::None,
            max_bad: 0.5,
            ..ShardConfig::default()
        };
        let source = ShardSource::open(config).unwrap();
        assert_eq!(source.len(), 1, "b has no long caption");
        let stored = source.get(0).unwrap().embeddings.unwrap();
        assert_eq!(stored.read("longsv_captions").unwrap(), [3.0, 4.0]);
    }
}
