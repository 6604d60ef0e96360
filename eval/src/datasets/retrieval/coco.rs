//! COCO's own captions files (`captions_val2014.json`), also used by CLIP_benchmark for the Karpathy splits.

use std::path::Path;

use serde::Deserialize;

use super::{RetrievalBuilder, file};
use crate::error::{EvalError, Result};
use crate::files::read_json;

#[derive(Deserialize)]
struct Annotations {
    images: Vec<Image>,
    annotations: Vec<Caption>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Caption {
    image_id: u64,
    caption: String,
}

/// Images in the order of their ids, captions grouped by image in file order: torchvision's order.
pub(super) fn read(path: &Path, dir: &Path, builder: &mut RetrievalBuilder) -> Result<()> {
    let Annotations {
        mut images,
        mut annotations,
    } = read_json(path, "COCO's captions file")?;
    images.sort_by_key(|image| image.id);
    for image in &images {
        builder.image(&image.id.to_string(), file(dir, &image.file_name))?;
    }
    annotations.sort_by_key(|caption| caption.image_id);
    for caption in &annotations {
        let id = caption.image_id;
        let image = builder.index_of(&id.to_string()).ok_or_else(|| {
            let reason = format!(
                "caption `{}` belongs to image {id}, which is not listed",
                caption.caption
            );
            EvalError::format(path, reason)
        })?;
        builder.caption(&caption.caption, &[image])?;
    }
    Ok(())
}
