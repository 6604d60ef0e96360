//! Flickr30k-CN and COCO-CN as Chinese-CLIP distributes them: `SPLIT_texts.jsonl`, where a text may own several images,
//! and images by id, as files or in the table `SPLIT_imgs.tsv`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use data::folder::IMAGE_EXTENSIONS;
use serde::Deserialize;

use super::{RetrievalBuilder, file};
use crate::error::{EvalError, Result};
use crate::files::read_jsonl;
use crate::images::ImageRef;

#[derive(Deserialize)]
struct Text {
    text: String,
    image_ids: Vec<u64>,
}

/// `images` is a folder of `ID.jpg`, with any known extension, or the table.
pub(super) fn read(path: &Path, images: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    let texts: Vec<Text> = read_jsonl(path)?;
    let mut table = match images.is_file() {
        true => Some(index(images)?),
        false => None,
    };
    for Text { text, image_ids } in texts {
        let mut owned = Vec::with_capacity(image_ids.len());
        for id in image_ids {
            let key = id.to_string();
            if let Some(image) = builder.index_of(&key) {
                owned.push(image);
                continue;
            }
            let image = match &mut table {
                None => file(images, image_name(images, &key)),
                Some(table) => table.remove(&key).ok_or_else(|| {
                    EvalError::format(images, format!("no image {key}, which `{text}` belongs to"))
                })?,
            };
            owned.push(builder.image(&key, image)?);
        }
        builder.caption(&text, &owned)?;
    }
    Ok(())
}

fn image_name(dir: &Path, id: &str) -> String {
    let upper = ["JPEG", "JPG"];
    let mut names = IMAGE_EXTENSIONS
        .iter()
        .chain(&upper)
        .map(|extension| format!("{id}.{extension}"));
    names
        .find(|name| dir.join(name).exists())
        .unwrap_or_else(|| format!("{id}.jpg"))
}

/// Where the images of `ID<TAB>BASE64` lines lie.
fn index(path: &Path) -> Result<HashMap<String, ImageRef>> {
    let mut lines = BufReader::new(File::open(path).map_err(EvalError::io(path))?);
    let (mut images, mut line, mut start) = (HashMap::new(), Vec::new(), 0u64);
    while lines
        .read_until(b'\n', &mut line)
        .map_err(EvalError::io(path))?
        > 0
    {
        if !line.trim_ascii().is_empty() {
            let Some(tab) = line.iter().position(|&byte| byte == b'\t') else {
                let reason = format!("line {}: no tab after the id", images.len() + 1);
                return Err(EvalError::format(path, reason));
            };
            let id = String::from_utf8_lossy(&line[..tab]).trim().to_owned();
            let image = ImageRef::Cell {
                table: path.into(),
                id: id.clone(),
                offset: start + tab as u64 + 1,
                len: (line.len() - tab - 1) as u64,
            };
            if images.insert(id.clone(), image).is_some() {
                return Err(EvalError::format(
                    path,
                    format!("image {id} is there twice"),
                ));
            }
        }
        start += line.len() as u64;
        line.clear();
    }
    Ok(images)
}
