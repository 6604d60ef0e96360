//! The folder of an evaluation set in shards, as CLIP_benchmark writes it.
//!
//! ```text
//! root/test/nshards.txt                       number of shards, required
//! root/test/{0..n-1}.tar
//! root/classnames.txt                         one per line
//! root/zeroshot_classification_templates.txt  one per line, {c} for the class name
//! root/dataset_type.txt                       "retrieval", "multilabel" or absent
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::ShardConfig;
use crate::error::{DataError, Place};

/// What an evaluation set is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetType {
    /// One class per image, in `.cls`.
    #[default]
    Classification,
    /// Several classes per image, multi-hot in `.npy`.
    Multilabel,
    /// Captions, one per line of `.txt`.
    Retrieval,
}

/// One split of an evaluation set, with the texts that belong to it.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkLayout {
    /// How to open the shards.
    pub shards: ShardConfig,
    /// What the set is for.
    pub dataset_type: DatasetType,
    /// Class names by index, if they are there.
    pub class_names: Option<Vec<String>>,
    /// Zero-shot templates with `{c}` for the class name, if they are there.
    pub templates: Option<Vec<String>>,
}

impl BenchmarkLayout {
    /// Reads the layout of `root` for a split, usually `train` or `test`. The shards are not
    /// opened, but the last one must be there.
    pub fn read(root: &Path, split: &str) -> Result<Self, DataError> {
        let folder = root.join(split);
        let count_file = folder.join("nshards.txt");
        let count =
            fs::read_to_string(&count_file).map_err(|error| DataError::io(&count_file, error))?;
        let shards: usize = count
            .trim()
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| {
                let what = format!(
                    "`{}` is no number of shards; write how many .tar files there are",
                    count.trim()
                );
                DataError::malformed(&count_file, Place::Whole, what)
            })?;

        // The number alone would make millions of names, each of a shard that is missing.
        let last = folder.join(format!("{}.tar", shards - 1));
        if !last.is_file() {
            let what = format!(
                "says that there are {shards} shards, but {} is not there; fetch it, or mend the number",
                last.display()
            );
            return Err(DataError::malformed(&count_file, Place::Whole, what));
        }

        let type_file = root.join("dataset_type.txt");
        let dataset_type = match optional(&type_file)?.as_deref().map(str::trim) {
            None | Some("" | "classification") => DatasetType::Classification,
            Some("retrieval") => DatasetType::Retrieval,
            Some("multilabel") => DatasetType::Multilabel,
            Some(other) => {
                let what =
                    format!("dataset type `{other}` is neither `retrieval` nor `multilabel`");
                return Err(DataError::malformed(&type_file, Place::Whole, what));
            }
        };
        let pattern = format!("{{0..{}}}.tar", shards - 1);
        let config = match dataset_type {
            DatasetType::Classification => ShardConfig::classification(pattern),
            DatasetType::Multilabel => ShardConfig {
                label_key: None,
                extra: vec!["npy".into()],
                ..ShardConfig::classification(pattern)
            },
            DatasetType::Retrieval => ShardConfig {
                text_lines: true,
                ..ShardConfig::new(pattern)
            },
        };
        let lines = |file: &str| -> Result<Option<Vec<String>>, DataError> {
            let text = optional(&root.join(file))?;
            Ok(text.map(|text| {
                text.lines()
                    .map(str::trim)
                    .filter(|l| !l.is_empty())
                    .map(String::from)
                    .collect()
            }))
        };
        Ok(Self {
            // An evaluation must not lose images silently.
            shards: ShardConfig {
                root: Some(folder),
                max_bad: 0.0,
                ..config
            },
            dataset_type,
            class_names: lines("classnames.txt")?,
            templates: lines("zeroshot_classification_templates.txt")?,
        })
    }
}

fn optional(path: &Path) -> Result<Option<String>, DataError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataError::io(path, error)),
    }
}
