//! Lists of images with their captions: BLIP's JSON, JSON lines, Crossmodal-3600, XTD10 and its siblings.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{RetrievalBuilder, file, first_existing};
use crate::error::{EvalError, Result};
use crate::files::{read_json, read_jsonl, read_text};

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
    let what = "a list of images with `image` and `caption`";
    add(read_json(path, what)?, dir, builder)
}

/// The same, one object per line. An image may stand in several lines: with a caption each, as pairs are written.
pub(super) fn read_lines(path: &Path, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    for Entry { image, caption } in read_jsonl::<Entry>(path)? {
        let index = match builder.index_of(&image) {
            Some(index) => index,
            None => builder.image(&image, file(dir, &image))?,
        };
        caption
            .into_list()
            .iter()
            .try_for_each(|caption| builder.caption(caption, &[index]))?;
    }
    Ok(())
}

impl Captions {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(caption) => vec![caption],
            Self::Many(captions) => captions,
        }
    }
}

fn add(entries: Vec<Entry>, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    for Entry { image, caption } in entries {
        builder.image_with_captions(&image, file(dir, &image), caption.into_list())?;
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

/// XTD10, XTD200 and Flickr30k-200: a folder with the names of the images and, for each language, a file with one
/// caption per name.
pub(super) fn xtd(
    folder: &Path,
    dir: &Path,
    language: &str,
    builder: &mut RetrievalBuilder,
) -> Result<()> {
    let names = first_existing([
        folder.join("test_image_names.txt"),
        folder.join("filenames.txt"),
    ]);
    let captions = first_existing([
        folder.join(format!("test_1kcaptions_{language}.txt")),
        folder.join(format!("{language}.txt")),
    ]);
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (images, texts) = (lines(read_text(&names)?), lines(read_text(&captions)?));
    if images.len() != texts.len() {
        let (texts, images, names) = (texts.len(), images.len(), names.display());
        let reason = format!("{texts} captions for the {images} images of {names}");
        return Err(EvalError::format(&captions, reason));
    }
    for (image, text) in images.iter().zip(&texts) {
        builder.image_with_captions(image, file(dir, image), [text])?;
    }
    Ok(())
}
