//! Flickr's token file (`name.jpg#0<TAB>caption`) and CLIP_benchmark's text files (`name.jpg,caption` under a header).

use std::borrow::Cow;
use std::path::Path;

use data::folder::is_image_name;

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
        builder.caption(&caption, &[image])?;
    }
    Ok(())
}

/// Captions hold commas, so a comma counts only right after the extension of an image.
fn split(line: &str) -> Option<(String, Cow<'_, str>)> {
    if let Some((key, caption)) = line.split_once('\t') {
        let name = key.split_once('#').map_or(key, |(name, _)| name);
        return Some((name.to_owned(), caption.trim().into()));
    }
    let mut commas = line.match_indices(',').map(|(at, _)| at);
    let comma = commas.find(|at| is_image_name(Path::new(&line[..*at])))?;
    let caption = line[comma + 1..].trim();
    Some((line[..comma].to_owned(), unquoted(caption)))
}

/// The text of a CSV field: quotes around it are no part of it, and those inside are doubled. A caption that only
/// begins or ends with a quote is not such a field.
fn unquoted(field: &str) -> Cow<'_, str> {
    let inside = field
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(inside) if !inside.replace("\"\"", "").contains('"') => {
            inside.replace("\"\"", "\"").into()
        }
        _ => field.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_quotes_of_a_field_are_taken_off() {
        for (line, name, caption) in [
            ("1.jpg,A dog, running", "1.jpg", "A dog, running"),
            ("1.jpg,\"A dog, running\"", "1.jpg", "A dog, running"),
            ("1.jpg,\"A \"\"dog\"\"\"", "1.jpg", "A \"dog\""),
            (
                "1.jpg,A sign says \"stop\"",
                "1.jpg",
                "A sign says \"stop\"",
            ),
            (
                "1.jpg,\"Stop\" says the \"sign\"",
                "1.jpg",
                "\"Stop\" says the \"sign\"",
            ),
            ("a,b.JPEG,A dog", "a,b.JPEG", "A dog"),
            ("1.jpg#0\tA \"dog\"", "1.jpg", "A \"dog\""),
        ] {
            assert_eq!(
                split(line),
                Some((name.to_owned(), caption.into())),
                "{line}"
            );
        }
        assert_eq!(split("image,caption"), None);
    }
}
