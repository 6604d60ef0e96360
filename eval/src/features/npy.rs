//! Tables of NumPy: a file, or the files of a folder one after another, with the names that lie beside them.

use std::path::{Path, PathBuf};

use data::npy::Header;
use data::strings::read_column;
use safetensors::Dtype;

use super::{Features, IMAGE_FEATURES, Mapped, Storage, TEXT_FEATURES};
use crate::error::{EvalError, Result};
use crate::files::sorted_entries;
use crate::parts::{IMAGES, METADATA, TEXTS, metadata_of};

/// Whether a path leads to such tables.
pub(super) fn is_npy(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|extension| extension == "npy")
}

pub(super) fn open(path: &Path, side: &str) -> Result<Features> {
    let paths = match path.is_dir() {
        true => files(path, side)?,
        false => vec![path.to_path_buf()],
    };
    let mut files: Vec<Mapped> = Vec::new();
    let mut kind: Option<(usize, Dtype)> = None;
    for path in &paths {
        let map = Mapped::map(path)?;
        let wrong = |what: String| EvalError::format(path, what);
        let header = Header::parse(&map).map_err(wrong)?;
        let (&[rows, dim], Some((dtype, width))) = (&header.shape[..], dtype(&header.descr)) else {
            return Err(wrong(format!(
                "`{}` of shape {:?}, expected `<f4` or `<f2` of shape [items, dim]",
                header.descr, header.shape
            )));
        };
        let needed = dim
            .checked_mul(width)
            .and_then(|bytes| bytes.checked_mul(rows))
            .and_then(|bytes| bytes.checked_add(header.start));
        if dim == 0 || needed.is_none_or(|needed| needed > map.len()) {
            return Err(wrong(format!(
                "{} bytes are too few for its shape {:?}; was it copied to its end?",
                map.len(),
                header.shape
            )));
        }
        if *kind.get_or_insert((dim, dtype)) != (dim, dtype) {
            return Err(wrong(format!(
                "rows of {dim} {dtype:?}, and of another kind in {}",
                paths[0].display()
            )));
        }
        files.push(Mapped {
            map,
            start: header.start,
            end: rows + files.last().map_or(0, |last| last.end),
        });
    }
    let Some((dim, dtype)) = kind else {
        return Err(EvalError::format(path, "no .npy files in this folder"));
    };
    Ok(Features {
        len: files.last().map_or(0, |last| last.end),
        dim,
        names: names(&paths, &files, side)?,
        storage: Storage::Files { files, dtype },
    })
}

fn dtype(descr: &str) -> Option<(Dtype, usize)> {
    match descr {
        "<f4" => Some((Dtype::F32, 4)),
        "<f2" => Some((Dtype::F16, 2)),
        _ => None,
    }
}

/// The tables of one side, in the order of their numbers.
fn files(folder: &Path, side: &str) -> Result<Vec<PathBuf>> {
    let inside = match side {
        IMAGE_FEATURES => folder.join(IMAGES),
        TEXT_FEATURES => folder.join(TEXTS),
        _ => folder.to_path_buf(),
    };
    let folder = if inside.is_dir() { &inside } else { folder };
    let mut paths = sorted_entries(folder)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "npy"));
    // Numbers of any length, in whatever way they were padded.
    paths.sort_by_key(|path| path.as_os_str().len());
    Ok(paths)
}

/// What the rows are embeddings of, if all the files have a table that tells.
fn names(paths: &[PathBuf], files: &[Mapped], side: &str) -> Result<Option<Vec<String>>> {
    let column = match side {
        IMAGE_FEATURES => "image_path",
        TEXT_FEATURES => "caption",
        _ => return Ok(None),
    };
    let mut names = Vec::new();
    for (path, file) in paths.iter().zip(files) {
        let Some(table) = metadata_of(path) else {
            return Ok(None);
        };
        let Some(column) = read_column(&table, column)? else {
            // A part of which no row could be read says nothing in any column.
            match file.end == names.len() {
                true => continue,
                false => return Ok(None),
            }
        };
        names.extend(column.into_iter().map(Option::unwrap_or_default));
        if names.len() != file.end {
            let reason = format!(
                "{METADATA} of {} rows for other embeddings in {}",
                names.len(),
                path.display()
            );
            return Err(EvalError::format(&table, reason));
        }
    }
    Ok((!names.is_empty()).then_some(names))
}
