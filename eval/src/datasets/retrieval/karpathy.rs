//! Karpathy's splits of COCO, Flickr30k and Flickr8k (`dataset_coco.json` and its siblings).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{RetrievalBuilder, first_existing};
use crate::error::{EvalError, Result};
use crate::files::read_json;
use crate::images::ImageRef;

#[derive(Deserialize)]
struct Annotations {
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Image {
    /// Folder; COCO only.
    #[serde(default)]
    filepath: String,
    filename: String,
    split: String,
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

/// Images lie in `dir/filepath/filename` or `dir/filename`.
pub(super) fn read(
    path: &Path,
    dir: &Path,
    split: &str,
    builder: &mut RetrievalBuilder,
) -> Result<()> {
    let annotations: Annotations = read_json(path, "an annotation file of Karpathy's schema")?;
    let mut splits: BTreeMap<&str, usize> = BTreeMap::new();
    for image in &annotations.images {
        *splits.entry(&image.split).or_default() += 1;
        if image.split == split {
            let id = format!("{}/{}", image.filepath, image.filename);
            let full = dir.join(&image.filepath).join(&image.filename);
            let place = first_existing([full, dir.join(&image.filename)]);
            let captions = image.sentences.iter().map(|s| &s.raw);
            builder.image_with_captions(&id, ImageRef::File(place), captions)?;
        }
    }
    if !splits.contains_key(split) {
        let reason = format!("no image of split `{split}`; the file has {splits:?}");
        return Err(EvalError::format(path, reason));
    }
    Ok(())
}
