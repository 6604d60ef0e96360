//! Flickr's token file (`name.jpg#0<TAB>caption`) and CLIP_benchmark's text files (`name.jpg,caption` under a header).

use std::path::Path;

use super::{RetrievalBuilder, file};
use crate::error::{EvalError, Result};
use crate::files::read_text;

/// Images in the order of their first caption.
pub(super) fn read(path: &Path, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    let text = read_text(path)?;
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let Some((name, caption)) = split(line) else {
            if number == 0 {
                continue; // header
            }
            let reason = format!(
                "line {}: neither `name.jpg#0<TAB>caption` nor `name.jpg,caption`",
                number + 1
            );
            return Err(EvalError::format(path, reason));
        };
        let image = match builder.index_of(&name) {
            Some(image) => image,
            None => builder.image(&name, file(dir, &name))?,
        };
        builder.caption(caption, &[image])?;
    }
    Ok(())
}

/// Captions hold commas, so a comma counts only right after the extension.
fn split(line: &str) -> Option<(String, &str)> {
    if let Some((key, caption)) = line.split_once('\t') {
        let name = key.split_once('#').map_or(key, |(name, _)| name);
        return Some((name.to_owned(), caption.trim()));
    }
    let (stem, caption) = line.split_once(".jpg,")?;
    Some((format!("{stem}.jpg"), caption.trim().trim_matches('"')))
}
