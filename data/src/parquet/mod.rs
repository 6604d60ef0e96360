//! Parquet files with the images inside, as img2dataset's `output_format=parquet` writes them and
//! the Hugging Face hub serves them.
//!
//! The settings are always here; reading the files needs the feature `parquet`.

#[cfg(feature = "parquet")]
mod cache;
#[cfg(feature = "parquet")]
mod file;
#[cfg(feature = "parquet")]
mod source;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(feature = "parquet")]
pub(crate) use file::read_strings;
#[cfg(feature = "parquet")]
pub use source::ParquetSource;

use crate::captions::CaptionField;
use crate::error::DataError;
use crate::fetch::{Fetch, Form, local_shards};
use crate::sample::CaptionKind;
use crate::source::Source;

/// Which files are read, and what their columns mean. The defaults are img2dataset's.
///
/// A column inside of others is named by its path, such as `image.bytes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParquetConfig {
    /// A pattern such as `{00000..00331}.parquet`, see [`expand`](crate::webdataset::expand);
    /// several are joined by `::`. Also `https://..` and `pipe:COMMAND`, see [`fetch`](crate::fetch).
    pub files: String,
    /// Folder that relative names of files start from, if not the working directory.
    pub root: Option<PathBuf>,
    /// The column of encoded images. img2dataset names it by their format.
    pub image_column: String,
    /// The columns of captions: strings, or lists of strings.
    pub caption_fields: Vec<CaptionField>,
    /// The column of keys: strings. If absent, `key` where there is one; otherwise keys are the
    /// file's name and the number of the row.
    pub key_column: Option<String>,
    /// A column of addresses that the images came from, for [`Source::url`]; img2dataset's is `url`. It may be missing.
    pub url_column: Option<String>,
    /// Megabytes of decoded row groups that are kept. Reading one row decodes its whole row group
    /// (img2dataset writes 100 rows to a group), so an order that stays in as many groups as fit
    /// here ([`Order::Windowed`](crate::Order::Windowed)) decodes each once. Beyond that, every
    /// reading thread holds one row group.
    pub cache_mb: usize,
    /// Where files from elsewhere are kept, and how they are fetched.
    pub fetch: Fetch,
    /// Share of dropped rows above which opening fails. img2dataset keeps a row for every image
    /// that it could not download.
    pub max_bad: f64,
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self {
            files: String::new(),
            root: None,
            image_column: "jpg".into(),
            caption_fields: vec![CaptionField::new("caption", CaptionKind::Web)],
            key_column: None,
            url_column: None,
            cache_mb: 256,
            fetch: Fetch::default(),
            max_bad: 0.1,
        }
    }
}

impl ParquetConfig {
    /// img2dataset's files of a pattern.
    pub fn new(files: impl Into<String>) -> Self {
        Self {
            files: files.into(),
            ..Self::default()
        }
    }

    /// The files in order, braces expanded; those from elsewhere are fetched, if they were not before.
    ///
    /// # Errors
    ///
    /// Fails if the pattern has no meaning or a file cannot be fetched; always in a build without the feature `parquet`.
    pub fn paths(&self) -> Result<Vec<PathBuf>, DataError> {
        if !cfg!(feature = "parquet") {
            return Err(self.without_the_feature()); // before anything is fetched
        }
        local_shards(
            &self.files,
            self.root.as_deref(),
            &self.fetch,
            Form::Parquet,
        )
    }

    fn without_the_feature(&self) -> DataError {
        DataError::Config(format!(
            "{}: this program was built without the feature `parquet`; build it with \
             `--features parquet`, or convert the files to webdataset shards",
            self.files
        ))
    }

    /// Opens the files.
    ///
    /// # Errors
    ///
    /// As `ParquetSource::open`; always in a build without the feature `parquet`.
    pub fn open(self) -> Result<Box<dyn Source>, DataError> {
        #[cfg(feature = "parquet")]
        return Ok(Box::new(ParquetSource::open(self)?));
        #[cfg(not(feature = "parquet"))]
        Err(self.without_the_feature())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_img2dataset() {
        let config: ParquetConfig = serde_json::from_str(r#"{"files": "a.parquet"}"#).unwrap();
        assert_eq!(config, ParquetConfig::new("a.parquet"));
        assert_eq!(config.image_column, "jpg");
        assert_eq!(config.caption_fields[0].field, "caption");
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn a_build_without_the_feature_says_which_one_is_missing() {
        let error = ParquetConfig::new("a.parquet").open().err().unwrap();
        assert!(error.to_string().contains("--features parquet"), "{error}");
    }
}
