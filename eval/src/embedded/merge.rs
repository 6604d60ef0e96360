//! Shares → the whole file.

use std::io::Write;
use std::path::Path;

use files::Shard;

use super::share::ShareFile;
use super::write::Header;
use crate::error::{EvalError, Result};
use crate::features::LOGIT_SCALE;

/// What was put together.
#[derive(Debug)]
pub struct Merged {
    /// Number of shares.
    pub shares: usize,
    /// Images in the list, those that could not be read included.
    pub listed: usize,
    /// Rows of images.
    pub images: usize,
    /// Rows of texts.
    pub texts: usize,
    /// Why images were left out, one reason each.
    pub left_out: Vec<String>,
}

/// Puts together the shares that lie beside `whole` ([`Shard::path`]), and writes the file that one process would have
/// written. Rows are copied from file to file, so memory holds only the names of the rows.
///
/// # Errors
///
/// Names the shares that are missing or there twice, a share of another list, of another model or made with other options,
/// and what cannot be read or written.
pub fn merge(whole: &Path) -> Result<Merged> {
    let paths = Shard::files(whole).map_err(EvalError::io(whole))?;
    let shares = paths.into_iter().map(|path| {
        let (share, file) = ShareFile::open(&path)?;
        Ok((share, path, file))
    });
    let shares = Shard::complete(whole, shares.collect::<Result<Vec<_>>>()?)
        .map_err(|what| EvalError::format(whole, format!("cannot be put together: {what}")))?;
    let (first_path, first) = &shares[0];
    for (path, share) in &shares {
        let other = first.note.work().difference(share.note.work());
        let kind = |share: &ShareFile| (share.embed_dim, share.float);
        let rows = (kind(share) != kind(first)).then(|| "rows of another length or dtype".into());
        if let Some(difference) = other.or(rows) {
            return Err(EvalError::format(
                path,
                format!(
                    "does not go together with {}: it was made of {difference}",
                    first_path.display()
                ),
            ));
        }
    }
    let files = || shares.iter().map(|(_, share)| share);
    let image_paths: Vec<String> = files().flat_map(|s| s.image_paths.clone()).collect();
    let texts: Vec<String> = files().flat_map(|s| s.texts.clone()).collect();
    let merged = Merged {
        shares: shares.len(),
        listed: first.note.work().images,
        images: files().map(|share| share.rows[0]).sum(),
        texts: files().map(|share| share.rows[1]).sum(),
        left_out: files().flat_map(|s| s.note.left_out().to_vec()).collect(),
    };
    for (what, names, rows) in [
        ("images", image_paths.len(), merged.images),
        ("texts", texts.len(), merged.texts),
    ] {
        if names != 0 && names != rows {
            let reason = format!(
                "cannot be put together: {names} names for {rows} rows of {what}; make all shares with names, or none"
            );
            return Err(EvalError::format(whole, reason));
        }
    }
    let header = Header {
        embed_dim: first.embed_dim,
        images: merged.images,
        texts: merged.texts,
        image_paths: &image_paths,
        text_lines: &texts,
        share: None,
        float: first.float,
    };
    header.write(whole, |name, file| match name {
        LOGIT_SCALE => file.write_all(first.bytes(name)),
        _ => files().try_for_each(|share| file.write_all(share.bytes(name))),
    })?;
    Ok(merged)
}
