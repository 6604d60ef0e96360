//! Sets of long captions, one per image: Urban1k, ShareGPT4V-1k, DOCCI.

use std::path::Path;

use serde::Deserialize;

use super::{RetrievalBuilder, file, first_existing};
use crate::error::{EvalError, Result};
use crate::files::{read_json, read_jsonl, read_text, sorted_entries};

/// ShareGPT4V-1k is the first thousand entries of the file (Zhang et al., 2024, Long-CLIP).
const SHAREGPT4V: usize = 1000;

/// Urban1k: `caption/1.txt` belongs to `image/1.jpg`. Only the first line counts, as in Long-CLIP and LLM2CLIP.
/// `captions` is the folder of text files or the one above it.
pub(super) fn urban1k(
    captions: &Path,
    images: &Path,
    builder: &mut RetrievalBuilder,
) -> Result<()> {
    let captions = first_existing([captions.join("caption"), captions.to_owned()]);
    let images = first_existing([images.join("image"), images.to_owned()]);
    let is_text = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "txt");
    let mut files: Vec<_> = sorted_entries(&captions)?
        .into_iter()
        .filter(is_text)
        .collect();
    let stem = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    files.sort_by_key(|path| (stem(path).parse::<u64>().unwrap_or(u64::MAX), stem(path)));
    for path in files {
        let text = read_text(&path)?;
        let stem = stem(&path);
        let image = file(&images, format!("{stem}.jpg"));
        builder.image_with_captions(&stem, image, [text.lines().next().unwrap_or_default()])?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Docci {
    example_id: String,
    split: String,
    image_file: String,
    description: String,
}

/// `docci_descriptions.jsonlines` (Onoe et al., 2024).
pub(super) fn docci(
    path: &Path,
    images: &Path,
    split: &str,
    builder: &mut RetrievalBuilder,
) -> Result<()> {
    let entries: Vec<Docci> = read_jsonl(path)?;
    if !entries.iter().any(|entry| entry.split == split) {
        let reason =
            format!("no entry of split `{split}`; DOCCI has train, test, qual_dev and qual_test");
        return Err(EvalError::format(path, reason));
    }
    for entry in entries.iter().filter(|entry| entry.split == split) {
        let image = file(images, &entry.image_file);
        builder.image_with_captions(&entry.example_id, image, [&entry.description])?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Shared {
    image: String,
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    value: String,
}

/// `share-captioner_coco_lcs_sam_1246k_1107.json` (Chen et al., 2023): the caption is the second turn.
pub(super) fn sharegpt4v(path: &Path, images: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    let entries: Vec<Shared> = read_json(path, "ShareGPT4V's list of conversations")?;
    for entry in entries.iter().take(SHAREGPT4V) {
        let [_, caption, ..] = entry.conversations.as_slice() else {
            let reason = format!("`{}` has no second turn with the caption", entry.image);
            return Err(EvalError::format(path, reason));
        };
        builder.image_with_captions(&entry.image, file(images, &entry.image), [&caption.value])?;
    }
    Ok(())
}
