//! Images with a caption that a model may read and those that it should write.

use std::path::{Path, PathBuf};

use data::webdataset::{Member, TarSample, expand, samples};
use serde_json::Value;

use crate::datasets::retrieval::RetrievalData;
use crate::error::{EvalError, Result};
use crate::images::ImageRef;

/// Images, and what is said about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptionData {
    /// Name under which results are filed.
    pub name: String,
    /// The images.
    pub images: Vec<ImageRef>,
    /// For each image the caption that a model may read beside it; empty where there is none.
    pub web: Vec<String>,
    /// For each image the captions that people, or another model, wrote.
    pub references: Vec<Vec<String>>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

impl From<RetrievalData> for CaptionData {
    /// Nothing to read beside the images; images without captions are left out.
    fn from(data: RetrievalData) -> Self {
        let mut captioned = Self {
            name: data.name,
            notes: data.notes,
            ..Self::default()
        };
        for (index, image) in data.images.into_iter().enumerate() {
            let texts = data.matches.texts_of(index).iter();
            let texts: Vec<String> = texts
                .map(|text| data.texts[*text as usize].clone())
                .collect();
            if !texts.is_empty() {
                captioned.images.push(image);
                captioned.web.push(String::new());
                captioned.references.push(texts);
            }
        }
        captioned
    }
}

const IMAGES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Samples of webdataset shards: the `.txt` is read beside the image, and `field` of the `.json`, a string or a list, is what
/// should be written. Samples without that field or an image are left out and counted.
///
/// # Errors
///
/// When a shard or its JSON cannot be read, or no sample is whole.
pub fn caption_shards(pattern: &str, root: &Path, field: &str) -> Result<CaptionData> {
    let failed = |error: data::DataError| EvalError::Option {
        option: "shards",
        reason: error.to_string(),
    };
    let mut data = CaptionData::default();
    let mut left_out = 0;
    for shard in expand(pattern).map_err(failed)? {
        let shard = root.join(shard);
        for parts in samples(&shard).map_err(failed)? {
            match sample(&shard, &parts, field)? {
                Some((image, web, references)) => {
                    data.images.push(image);
                    data.web.push(web);
                    data.references.push(references);
                }
                None => left_out += 1,
            }
        }
    }
    if data.images.is_empty() {
        return Err(EvalError::Option {
            option: "shards",
            reason: format!(
                "no sample of `{pattern}` has an image and the field `{field}` in its .json"
            ),
        });
    }
    if left_out > 0 {
        data.notes.push(format!(
            "{left_out} samples without an image or `{field}` were left out"
        ));
    }
    Ok(data)
}

type Captioned = (ImageRef, String, Vec<String>);

fn sample(shard: &Path, parts: &TarSample, field: &str) -> Result<Option<Captioned>> {
    let part = |wanted: &str| parts.part(wanted).map(|member| at(shard, member));
    let text =
        |image: &ImageRef| Ok::<_, EvalError>(String::from_utf8_lossy(&image.read()?).into_owned());
    let (Some(image), Some(json)) = (
        IMAGES.iter().find_map(|extension| part(extension)),
        part("json"),
    ) else {
        return Ok(None);
    };
    let fields: Value = serde_json::from_str(&text(&json)?)
        .map_err(|error| EvalError::format(&PathBuf::from(json.name()), error.to_string()))?;
    let references: Vec<String> = match &fields[field] {
        Value::String(caption) => vec![caption.clone()],
        Value::Array(captions) => captions
            .iter()
            .filter_map(|c| c.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    let web = part("txt")
        .map(|web| text(&web))
        .transpose()?
        .unwrap_or_default();
    let some = references
        .iter()
        .any(|reference| !reference.trim().is_empty());
    Ok(some.then(|| (image, web.trim().to_owned(), references)))
}

fn at(shard: &Path, member: &Member) -> ImageRef {
    ImageRef::Member {
        shard: shard.to_owned(),
        member: member.name.clone(),
        offset: member.offset,
        len: member.size,
    }
}
