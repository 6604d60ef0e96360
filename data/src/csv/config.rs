//! How a table is laid out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CaptionPlace, Columns, reader};
use crate::captions::{CaptionField, weight};
use crate::error::{DataError, Place};
use crate::sample::CaptionKind;

/// A column, by the name in the header or by its index from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// Index from 0.
    Index(usize),
    /// Name in the header row.
    Name(String),
}

/// A column of captions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionColumn {
    /// The column.
    pub column: Column,
    /// What kind of captions it holds; web captions if absent.
    #[serde(default)]
    pub kind: CaptionKind,
    /// How often the column is drawn among those of its kind; 1 if absent.
    #[serde(default, deserialize_with = "weight")]
    pub weight: Option<f64>,
}

impl CaptionColumn {
    /// A column of captions of a kind.
    pub fn new(column: Column, kind: CaptionKind) -> Self {
        Self {
            column,
            kind,
            weight: None,
        }
    }
}

/// What to do with a caption that is not UTF-8. Told as a problem either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokenUtf8 {
    /// Keep the row; broken bytes become U+FFFD.
    #[default]
    Replace,
    /// Skip the row.
    Skip,
}

/// Which rows are taken for images. Rows that are not are passed over without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageExtensions {
    /// All rows.
    #[default]
    Any,
    /// Paths that end with `.png`, `.jpg` or `.jpeg` in upper or lower case.
    Common,
    /// In lower case only: LaCLIP's rule, which its rewrite files are counted by.
    CommonLowerCase,
}

impl ImageExtensions {
    pub(super) fn accept(self, image: &[u8]) -> bool {
        let known = [".png", ".jpg", ".jpeg"];
        match self {
            Self::Any => true,
            Self::Common => known
                .iter()
                .any(|e| image.to_ascii_lowercase().ends_with(e.as_bytes())),
            Self::CommonLowerCase => known.iter().any(|e| image.ends_with(e.as_bytes())),
        }
    }
}

/// A table of image paths and captions. The defaults are open_clip's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvConfig {
    /// The table.
    pub path: PathBuf,
    /// Folder that relative image paths start from, if not the working directory.
    pub root: Option<PathBuf>,
    /// What separates columns: a single ASCII character.
    pub separator: char,
    /// Whether the first row names the columns.
    pub header: bool,
    /// The column of image paths.
    pub image: Column,
    /// The columns of captions.
    pub captions: Vec<CaptionColumn>,
    /// The column of class indices, if there is one.
    pub label: Option<Column>,
    /// Which rows are taken for images.
    pub image_extensions: ImageExtensions,
    /// Text files with one rewrite per line, the lines in the order of the rows (LaCLIP).
    pub rewrites: Vec<PathBuf>,
    /// What to do with captions that are not UTF-8.
    pub broken_utf8: BrokenUtf8,
    /// Share of skipped rows above which opening fails.
    pub max_bad: f64,
}

impl Default for CsvConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            root: None,
            separator: '\t',
            header: true,
            image: Column::Name("filepath".into()),
            captions: vec![CaptionColumn::new(
                Column::Name("title".into()),
                CaptionKind::Web,
            )],
            label: None,
            image_extensions: ImageExtensions::Any,
            rewrites: Vec::new(),
            broken_utf8: BrokenUtf8::Replace,
            max_bad: 0.1,
        }
    }
}

impl CsvConfig {
    /// open_clip's table: tab-separated, with columns `filepath` and `title`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// CC3M's and LaCLIP's table: comma-separated without a header, image path and caption first,
    /// with any number of rewrite files.
    pub fn laclip(
        path: impl Into<PathBuf>,
        root: impl Into<PathBuf>,
        rewrites: Vec<PathBuf>,
    ) -> Self {
        Self {
            root: Some(root.into()),
            separator: ',',
            header: false,
            image: Column::Index(0),
            captions: vec![CaptionColumn::new(Column::Index(1), CaptionKind::Web)],
            image_extensions: ImageExtensions::CommonLowerCase,
            rewrites,
            ..Self::new(path)
        }
    }

    /// DreamLIP's table: comma-separated, `Image Path` and the seven caption columns.
    pub fn dreamlip(path: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        let captions = CaptionField::dreamlip();
        let column = |c: CaptionField| CaptionColumn::new(Column::Name(c.field), c.kind);
        Self {
            root: Some(root.into()),
            separator: ',',
            image: Column::Name("Image Path".into()),
            captions: captions.into_iter().map(column).collect(),
            ..Self::new(path)
        }
    }

    /// Finds the columns in the header of `bytes`.
    pub(super) fn columns(&self, bytes: &[u8]) -> Result<Columns, DataError> {
        if !self.separator.is_ascii() || ['"', '\n', '\r'].contains(&self.separator) {
            let what = format!(
                "separator {:?} cannot be used; take one ASCII character, such as a tab",
                self.separator
            );
            return Err(DataError::Config(what));
        }
        let header: Vec<String> = match self.header {
            false => Vec::new(),
            true => {
                let mut reader = reader(self).has_headers(true).from_reader(bytes);
                let header = reader.byte_headers().map_err(|error| {
                    DataError::malformed(
                        &self.path,
                        Place::Line(1),
                        format!("the header cannot be read: {error}"),
                    )
                })?;
                header
                    .iter()
                    .map(|name| String::from_utf8_lossy(name).trim().to_string())
                    .collect()
            }
        };
        let find = |column: &Column| {
            match column {
            Column::Index(index) => Ok(*index),
            Column::Name(name) => header.iter().position(|known| known == name).ok_or_else(|| {
                let what = match self.header {
                    true => format!(
                        "there is no column `{name}`; the header has {header:?}. Check the separator \
                         and the column names"
                    ),
                    false => format!(
                        "column `{name}` is asked for by name, but the table is read without a header"
                    ),
                };
                DataError::malformed(&self.path, Place::Line(1), what)
            }),
        }
        };
        let caption = |column: &CaptionColumn| {
            let index = find(&column.column)?;
            Ok(CaptionPlace {
                index,
                kind: column.kind,
                weight: column.weight.unwrap_or(1.0),
                name: header.get(index).cloned().unwrap_or_default(),
            })
        };
        let captions = self.captions.iter().map(caption);
        Ok(Columns {
            image: find(&self.image)?,
            captions: captions.collect::<Result<_, DataError>>()?,
            label: self.label.as_ref().map(find).transpose()?,
        })
    }
}
