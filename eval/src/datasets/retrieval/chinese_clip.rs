//! Flickr30k-CN and COCO-CN as Chinese-CLIP distributes them: `SPLIT_texts.jsonl`, where a text may own several images,
//! and images named by id.

use std::path::Path;

use serde::Deserialize;

use super::{RetrievalBuilder, file};
use crate::error::Result;
use crate::files::read_jsonl;
use crate::images::is_image_name;

#[derive(Deserialize)]
struct Text {
    text: String,
    image_ids: Vec<u64>,
}

/// Images lie in `dir/ID.jpg`, with any known extension.
pub(super) fn read(path: &Path, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    let texts: Vec<Text> = read_jsonl(path)?;
    for Text { text, image_ids } in texts {
        let mut images = Vec::with_capacity(image_ids.len());
        for id in image_ids {
            let key = id.to_string();
            images.push(match builder.index_of(&key) {
                Some(image) => image,
                None => builder.image(&key, file(dir, image_name(dir, &key)))?,
            });
        }
        builder.caption(&text, &images)?;
    }
    Ok(())
}

fn image_name(dir: &Path, id: &str) -> String {
    let names =
        ["jpg", "jpeg", "png", "webp", "JPEG", "JPG"].map(|extension| format!("{id}.{extension}"));
    let found = names
        .iter()
        .find(|name| is_image_name(Path::new(name)) && dir.join(name).exists());
    found.unwrap_or(&names[0]).clone()
}
