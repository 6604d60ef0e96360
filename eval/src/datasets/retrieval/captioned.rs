//! Lists of images with their captions: BLIP's JSON, JSON lines, Crossmodal-3600.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{RetrievalBuilder, file};
use crate::error::{EvalError, Result};
use crate::files::{read_json, read_jsonl};

#[derive(Deserialize)]
struct Entry {
    image: String,
    caption: Captions,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Captions {
    One(String),
    Many(Vec<String>),
}

/// BLIP and LAVIS: a list of `{"image": PATH, "caption": STRING or [STRINGS]}`.
pub(super) fn read_list(path: &Path, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    add(read_json(path)?, dir, builder)
}

/// The same, one object per line.
pub(super) fn read_lines(path: &Path, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    add(read_jsonl(path)?, dir, builder)
}

fn add(entries: Vec<Entry>, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    for Entry { image, caption } in entries {
        let captions = match caption {
            Captions::One(caption) => vec![caption],
            Captions::Many(captions) => captions,
        };
        builder.image_with_captions(&image, file(dir, &image), captions)?;
    }
    Ok(())
}

/// `captions.jsonl` of Crossmodal-3600 (Thapliyal et al., 2022): one language, the first caption of each image as in
/// CLIP_benchmark.
pub(super) fn xm3600(
    path: &Path,
    dir: &Path,
    language: &str,
    builder: &mut RetrievalBuilder,
) -> Result<()> {
    for (line, entry) in read_jsonl::<Value>(path)?.iter().enumerate() {
        let missing = |what: &str| EvalError::format(path, format!("line {}: no {what}", line + 1));
        let key = entry["image/key"]
            .as_str()
            .ok_or_else(|| missing("`image/key`"))?;
        let caption = entry[language]["caption"][0].as_str();
        let caption =
            caption.ok_or_else(|| missing(&format!("caption in language `{language}`")))?;
        builder.image_with_captions(key, file(dir, format!("{key}.jpg")), [caption])?;
    }
    Ok(())
}
