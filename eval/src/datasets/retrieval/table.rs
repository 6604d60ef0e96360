//! Tables of images and captions with named columns, as open_clip trains from: one row per pair.

use std::path::Path;

use super::{RetrievalBuilder, file};
use crate::error::{EvalError, Result};
use crate::files::read_text;
use data::csv::swallowed;

/// Names of the column of image paths, open_clip's first.
const IMAGE: [&str; 6] = [
    "filepath",
    "image",
    "path",
    "file",
    "filename",
    "image_path",
];
/// Names of the column of captions.
const CAPTION: [&str; 4] = ["title", "caption", "text", "sentence"];

/// Comma-separated, or tab-separated if there is a tab in the header; images in the order of their first caption.
pub(super) fn read(path: &Path, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    let text = read_text(path)?;
    let header = text.lines().next().unwrap_or_default();
    let separator = if header.contains('\t') { b'\t' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .from_reader(text.as_bytes());
    let failed = |error: csv::Error| EvalError::format(path, error.to_string());
    let header = reader.headers().map_err(failed)?.clone();
    let column = |names: &[&str], what: &str| {
        let is_known = |name: &str| {
            names
                .iter()
                .any(|known| name.trim().eq_ignore_ascii_case(known))
        };
        header.iter().position(is_known).ok_or_else(|| {
            let reason = format!(
                "no column of {what} ({}); the header has {}",
                names.join(", "),
                header.iter().collect::<Vec<_>>().join(", ")
            );
            EvalError::format(path, reason)
        })
    };
    let (image, caption) = (
        column(&IMAGE, "image paths")?,
        column(&CAPTION, "captions")?,
    );
    let mut last = 0;
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let position = record
            .position()
            .map_or((0, 0), |p| (p.byte() as usize, p.line()));
        last = position.0;
        let name = record.get(image).unwrap_or_default();
        if name.trim().is_empty() {
            let what = format!("line {}: the row names no image", position.1);
            return Err(EvalError::format(path, what));
        }
        let index = match builder.index_of(name) {
            Some(index) => index,
            None => builder.image(name, file(dir, name))?,
        };
        builder.caption(record.get(caption).unwrap_or_default(), &[index])?;
    }
    // Only the last row can have swallowed others: a quote that is not closed reaches to the end of the file.
    let row = text.as_bytes().get(last..).unwrap_or_default();
    match swallowed(row, separator.into()) {
        None | Some(0) => Ok(()),
        Some(lines) => Err(EvalError::format(
            path,
            format!(
                "a quote in the last row that was read is not closed and swallows {lines} lines; close it, or double \
                     it where it belongs to the text"
            ),
        )),
    }
}
