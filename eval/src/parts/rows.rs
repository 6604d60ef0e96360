//! What is embedded.

use std::path::PathBuf;

use clip::preprocess::{RgbImage, decode};
use data::csv::CsvSource;
use data::{CaptionKind, Captions, Source};

use crate::embedded::list_digest;
use crate::error::{EvalError, Result};
use crate::images::ImageRef;

/// Images, captions, or images with captions.
pub enum Rows {
    /// Images.
    Images(Vec<ImageRef>),
    /// Captions.
    Captions(Vec<String>),
    /// A table of image files and captions.
    Table(Box<CsvSource>),
    /// Files with images and captions inside.
    Source {
        /// What reads them.
        source: Box<dyn Source>,
        /// The files.
        files: Vec<PathBuf>,
    },
}

/// An image with its caption, whichever is there.
pub struct Row {
    /// The decoded image.
    pub image: Option<RgbImage>,
    /// The caption.
    pub caption: Option<String>,
    /// The values of [`Rows::columns`].
    pub named: Vec<Option<String>>,
}

impl Rows {
    /// Number of rows, those that cannot be read included.
    pub fn len(&self) -> usize {
        match self {
            Self::Images(images) => images.len(),
            Self::Captions(captions) => captions.len(),
            Self::Table(table) => table.len(),
            Self::Source { source, .. } => source.len(),
        }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether rows have images.
    pub fn has_images(&self) -> bool {
        !matches!(self, Self::Captions(_))
    }

    /// Whether rows have captions.
    pub fn has_captions(&self) -> bool {
        !matches!(self, Self::Images(_))
    }

    /// What is known of a row, by the names that clip-retrieval and img2dataset give it.
    pub fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Images(_) => &["image_path"],
            Self::Captions(_) => &["caption"],
            Self::Table(_) => &["image_path", "caption", "key"],
            Self::Source { .. } => &["image_path", "caption", "key", "url"],
        }
    }

    /// A digest of what the rows are, by which a list is known again. Of tables and of files with images inside, by their
    /// paths and sizes.
    pub fn digest(&self) -> String {
        let sized = |path: &PathBuf| {
            let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
            format!("{}, {bytes} bytes", path.display())
        };
        let of = |names: Vec<String>| list_digest(names.iter().map(String::as_str), &[], []);
        match self {
            Self::Images(images) => of(images.iter().map(ImageRef::name).collect()),
            Self::Captions(captions) => list_digest([], &[], captions.iter().map(String::as_str)),
            Self::Table(table) => of(vec![sized(&PathBuf::from(table.name()))]),
            Self::Source { files, .. } => of(files.iter().map(sized).collect()),
        }
    }

    /// Reads a row. Row `i` is always the same.
    ///
    /// # Errors
    ///
    /// Names the image that cannot be read, and the row without a caption.
    pub fn read(&self, index: usize) -> Result<Row> {
        match self {
            Self::Images(images) => Ok(Row {
                image: Some(images[index].decode()?),
                caption: None,
                named: vec![Some(images[index].name())],
            }),
            Self::Captions(captions) => Ok(Row {
                image: None,
                caption: Some(captions[index].clone()),
                named: vec![Some(captions[index].clone())],
            }),
            Self::Table(table) => {
                let row = table.row(index)?;
                let caption = first(&row.captions, &row.key)?;
                let image = ImageRef::File(row.path);
                Ok(Row {
                    image: Some(image.decode()?),
                    named: vec![Some(image.name()), Some(caption.clone()), Some(row.key)],
                    caption: Some(caption),
                })
            }
            Self::Source { source, .. } => {
                let sample = source.get(index)?;
                let caption = first(&sample.captions, &sample.key)?;
                let image = decode(&sample.image).map_err(|error| {
                    let name = format!("{}, sample {}", source.name(), sample.key);
                    EvalError::format(name.as_ref(), error.to_string())
                })?;
                // An image whose address cannot be read is embedded without it.
                let url = source.url(index).unwrap_or_default();
                let key = Some(sample.key);
                Ok(Row {
                    image: Some(image),
                    named: vec![key.clone(), Some(caption.clone()), key, url],
                    caption: Some(caption),
                })
            }
        }
    }
}

/// The first caption with text: of the web ones, or else of another kind.
fn first(captions: &Captions, key: &str) -> Result<String> {
    let kinds = [
        CaptionKind::Web,
        CaptionKind::Synthetic,
        CaptionKind::Rewrite,
    ];
    let mut filled = kinds.into_iter().flat_map(|kind| captions.filled(kind));
    let caption = filled.next().map(str::to_owned);
    caption.ok_or_else(|| EvalError::format(key.as_ref(), "no caption"))
}
