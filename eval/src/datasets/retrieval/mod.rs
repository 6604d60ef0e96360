//! Images with captions, in the annotation formats of the field.

mod captioned;
mod chinese_clip;
mod coco;
mod flickr;
mod karpathy;
mod long_text;
mod table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::datasets::webdataset::{WebDataset, webdataset};
use crate::error::{EvalError, Result};
use crate::images::ImageRef;
use crate::metrics::retrieval::Matches;

/// Images, texts and who belongs to whom.
#[derive(Clone, Debug)]
pub struct RetrievalData {
    /// Name under which results are filed.
    pub name: String,
    /// The images.
    pub images: Vec<ImageRef>,
    /// The captions.
    pub texts: Vec<String>,
    /// Which captions describe which images.
    pub matches: Matches,
    /// What the reader should know: images without captions and the like.
    pub notes: Vec<String>,
    /// The split that was read; empty where the format has none.
    pub split: String,
}

impl RetrievalData {
    /// What remains when only some images are usable: captions that lose all their images go too. `kept` is ascending.
    ///
    /// Also returns the indices of the remaining texts.
    pub fn keep_images(&self, kept: &[usize]) -> Result<(Self, Vec<usize>)> {
        let (mut texts, mut pairs) = (Vec::new(), Vec::new());
        for text in 0..self.texts.len() {
            let images = self.matches.images_of(text);
            let new = images
                .iter()
                .filter_map(|&i| kept.binary_search(&(i as usize)).ok());
            let before = pairs.len();
            pairs.extend(new.map(|image| (texts.len() as u32, image as u32)));
            if pairs.len() > before {
                texts.push(text);
            }
        }
        let data = Self {
            name: self.name.clone(),
            images: kept.iter().map(|&i| self.images[i].clone()).collect(),
            texts: texts.iter().map(|&t| self.texts[t].clone()).collect(),
            matches: Matches::new(texts.len(), kept.len(), pairs)?,
            notes: self.notes.clone(),
            split: self.split.clone(),
        };
        Ok((data, texts))
    }
}

/// Formats that [`retrieval`] reads.
pub const FORMATS: [&str; 13] = [
    "karpathy",
    "coco",
    "flickr",
    "blip",
    "urban1k",
    "docci",
    "sharegpt4v",
    "xm3600",
    "xtd",
    "chinese-clip",
    "wds",
    "jsonl",
    "csv",
];

/// What to read of an annotation file.
#[derive(Clone, Debug)]
pub struct RetrievalOptions {
    /// Which split, where the file holds several.
    pub split: String,
    /// Which language, where the file holds several.
    pub language: String,
    /// At most so many captions per image, the first ones.
    pub max_captions: Option<usize>,
    /// Read a line break inside a caption as a space (Long-CLIP does so for ShareGPT4V).
    pub join_lines: bool,
}

impl Default for RetrievalOptions {
    fn default() -> Self {
        Self {
            split: "test".into(),
            language: "en".into(),
            max_captions: None,
            join_lines: false,
        }
    }
}

/// Formats whose annotations hold several splits; of the others each file is one.
const WITH_SPLITS: [&str; 3] = ["karpathy", "docci", "wds"];

/// Whether [`RetrievalOptions::split`] has a say in a format.
pub fn has_splits(format: &str) -> bool {
    WITH_SPLITS.contains(&format)
}

/// Opens a retrieval data set. `annotations` is the file that the format names (for `wds`, `xtd` and `urban1k` its folder),
/// `images` the folder that image paths are relative to.
pub fn retrieval(
    format: &str,
    annotations: &Path,
    images: &Path,
    options: &RetrievalOptions,
) -> Result<RetrievalData> {
    let mut builder = RetrievalBuilder::new(format).options(options);
    match format {
        "karpathy" => karpathy::read(annotations, images, &options.split, &mut builder)?,
        "coco" => coco::read(annotations, images, &mut builder)?,
        "flickr" => flickr::read(annotations, images, &mut builder)?,
        "blip" => captioned::read_list(annotations, images, &mut builder)?,
        "jsonl" => captioned::read_lines(annotations, images, &mut builder)?,
        "csv" => table::read(annotations, images, &mut builder)?,
        "urban1k" => long_text::urban1k(annotations, images, &mut builder)?,
        "docci" => long_text::docci(annotations, images, &options.split, &mut builder)?,
        "sharegpt4v" => long_text::sharegpt4v(annotations, images, &mut builder)?,
        "xm3600" => captioned::xm3600(annotations, images, &options.language, &mut builder)?,
        "xtd" => captioned::xtd(annotations, images, &options.language, &mut builder)?,
        "chinese-clip" => chinese_clip::read(annotations, images, &mut builder)?,
        "wds" => {
            return match webdataset("wds", annotations, &options.split)? {
                WebDataset::Retrieval(data) => Ok(data),
                WebDataset::Classification(_) => Err(EvalError::format(
                    annotations,
                    "the webdataset holds classes; dataset_type.txt must say `retrieval`",
                )),
            };
        }
        _ => {
            let reason = format!("`{format}` is unknown; there are {}", FORMATS.join(", "));
            return Err(EvalError::Option {
                option: "format",
                reason,
            });
        }
    }
    let split = match has_splits(format) {
        true => options.split.clone(),
        false => String::new(),
    };
    Ok(RetrievalData {
        split,
        ..builder.build()?
    })
}

/// Collects images and captions and refuses contradictions.
pub(crate) struct RetrievalBuilder {
    name: String,
    options: RetrievalOptions,
    images: Vec<ImageRef>,
    index_of: HashMap<String, usize>,
    captions_of: Vec<usize>,
    texts: Vec<String>,
    pairs: Vec<(u32, u32)>,
}

impl RetrievalBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            options: RetrievalOptions::default(),
            images: Vec::new(),
            index_of: HashMap::new(),
            captions_of: Vec::new(),
            texts: Vec::new(),
            pairs: Vec::new(),
        }
    }

    fn options(mut self, options: &RetrievalOptions) -> Self {
        self.options = options.clone();
        self
    }

    /// Adds an image under an id that must be new.
    pub(crate) fn image(&mut self, id: &str, image: ImageRef) -> Result<usize> {
        let index = self.images.len();
        if let Some(first) = self.index_of.insert(id.to_owned(), index) {
            let reason = format!(
                "image `{id}` is listed twice (entries {} and {}); give all its captions in one place",
                first + 1,
                index + 1
            );
            return Err(EvalError::dataset(&self.name, reason));
        }
        self.images.push(image);
        self.captions_of.push(0);
        Ok(index)
    }

    /// Index of an image that was added.
    pub(crate) fn index_of(&self, id: &str) -> Option<usize> {
        self.index_of.get(id).copied()
    }

    /// Adds a caption of some images.
    pub(crate) fn caption(&mut self, caption: &str, images: &[usize]) -> Result<()> {
        if caption.trim().is_empty() {
            let image = images
                .first()
                .map(|&i| self.images[i].name())
                .unwrap_or_default();
            return Err(EvalError::dataset(
                &self.name,
                format!("an empty caption for {image}"),
            ));
        }
        let limit = self.options.max_captions.unwrap_or(usize::MAX);
        let wanted: Vec<usize> = images
            .iter()
            .copied()
            .filter(|&i| self.captions_of[i] < limit)
            .collect();
        if !wanted.is_empty() {
            let text = self.texts.len() as u32;
            self.pairs
                .extend(wanted.iter().map(|&image| (text, image as u32)));
            wanted
                .iter()
                .for_each(|&image| self.captions_of[image] += 1);
            let join = |c: &str| {
                c.split(['\n', '\r'])
                    .filter(|l| !l.is_empty())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            self.texts.push(if self.options.join_lines {
                join(caption)
            } else {
                caption.to_owned()
            });
        }
        Ok(())
    }

    /// Adds a new image and its captions.
    pub(crate) fn image_with_captions<S: AsRef<str>>(
        &mut self,
        id: &str,
        image: ImageRef,
        captions: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        let index = self.image(id, image)?;
        captions
            .into_iter()
            .try_for_each(|caption| self.caption(caption.as_ref(), &[index]))
    }

    pub(crate) fn build(self) -> Result<RetrievalData> {
        if self.texts.is_empty() {
            return Err(EvalError::dataset(&self.name, "not a single caption"));
        }
        let bare: Vec<usize> = (0..self.images.len())
            .filter(|&i| self.captions_of[i] == 0)
            .collect();
        let notes = bare.first().map(|&first| {
            format!(
                "{} of {} images have no caption: they stay in the gallery and are no queries; first: {}",
                bare.len(),
                self.images.len(),
                self.images[first].name()
            )
        });
        Ok(RetrievalData {
            matches: Matches::new(self.texts.len(), self.images.len(), self.pairs)?,
            name: self.name,
            images: self.images,
            texts: self.texts,
            notes: notes.into_iter().collect(),
            split: String::new(),
        })
    }
}

fn file(dir: &Path, relative: impl AsRef<Path>) -> ImageRef {
    ImageRef::File(dir.join(relative))
}

/// The first of several places that exists, else the first.
fn first_existing(places: [PathBuf; 2]) -> PathBuf {
    let [first, second] = places;
    if !first.exists() && second.exists() {
        second
    } else {
        first
    }
}

#[cfg(test)]
mod tests;
