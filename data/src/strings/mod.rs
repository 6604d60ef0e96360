//! Tables of strings, row by row: what the rows of a file of embeddings are embeddings of.
//!
//! Either parquet, as clip-retrieval and img2dataset write it (feature `parquet`), or one JSON object per line, which needs no
//! feature.

mod json_lines;
#[cfg(feature = "parquet")]
mod parquet;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// How a table of strings is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// Parquet, compressed by snappy.
    Parquet,
    /// One JSON object per line.
    Jsonl,
}

impl TableFormat {
    /// The end of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl",
        }
    }

    /// That of a file, by its name.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?;
        [Self::Parquet, Self::Jsonl]
            .into_iter()
            .find(|format| extension == format.extension())
    }

    /// Refuses what this build cannot write.
    ///
    /// # Errors
    ///
    /// Names the feature that is missing.
    pub fn check(self) -> Result<(), DataError> {
        match self {
            Self::Parquet if cfg!(not(feature = "parquet")) => Err(without_parquet()),
            _ => Ok(()),
        }
    }
}

fn without_parquet() -> DataError {
    DataError::Config(
        "this program was built without the feature `parquet`: build it with `--features parquet`, or write the \
         metadata as jsonl"
            .into(),
    )
}

/// A table that grows by rows. It appears whole or not at all.
pub struct TableWriter(Format);

enum Format {
    Jsonl(json_lines::Writer),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::Writer>),
}

impl TableWriter {
    /// Begins a table that will be at `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be created; when it should be parquet in a build without it.
    pub fn create(path: &Path, format: TableFormat, columns: &[&str]) -> Result<Self, DataError> {
        Ok(Self(match format {
            TableFormat::Jsonl => Format::Jsonl(json_lines::Writer::create(path, columns)?),
            #[cfg(feature = "parquet")]
            TableFormat::Parquet => {
                Format::Parquet(Box::new(parquet::Writer::create(path, columns)?))
            }
            #[cfg(not(feature = "parquet"))]
            TableFormat::Parquet => return Err(without_parquet()),
        }))
    }

    /// Adds a row: a value, or none, for each column.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    ///
    /// # Panics
    ///
    /// Panics if there are more or fewer values than columns.
    pub fn push(&mut self, row: &[Option<&str>]) -> Result<(), DataError> {
        match &mut self.0 {
            Format::Jsonl(writer) => writer.push(row),
            #[cfg(feature = "parquet")]
            Format::Parquet(writer) => writer.push(row),
        }
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn finish(self) -> Result<(), DataError> {
        match self.0 {
            Format::Jsonl(writer) => writer.finish(),
            #[cfg(feature = "parquet")]
            Format::Parquet(writer) => writer.finish(),
        }
    }
}

/// The values of one column of a table, row by row; `None` if there is no such column.
///
/// # Errors
///
/// When the file cannot be read, is damaged, or is parquet in a build without it.
pub fn read_column(path: &Path, column: &str) -> Result<Option<Vec<Option<String>>>, DataError> {
    match TableFormat::of(path) {
        Some(TableFormat::Parquet) => {
            #[cfg(feature = "parquet")]
            return crate::parquet::read_strings(path, column);
            #[cfg(not(feature = "parquet"))]
            Err(DataError::malformed(
                path,
                crate::error::Place::Whole,
                "this program was built without the feature `parquet`, build it with `--features parquet`",
            ))
        }
        _ => json_lines::read(path, column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(format: TableFormat) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("m.{}", format.extension()));
        let mut writer = TableWriter::create(&path, format, &["key", "caption"]).unwrap();
        let captions = |i: usize| (!i.is_multiple_of(3)).then(|| format!("ein \"Hund\" 🐕\n{i}"));
        // More than one row group.
        let rows = 20_003;
        for i in 0..rows {
            let (key, caption) = (i.to_string(), captions(i));
            writer.push(&[Some(&key), caption.as_deref()]).unwrap();
        }
        assert!(!path.exists());
        writer.finish().unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        let keys = read_column(&path, "key").unwrap().unwrap();
        assert!(keys.into_iter().eq((0..rows).map(|i| Some(i.to_string()))));
        let read = read_column(&path, "caption").unwrap().unwrap();
        assert!(read.into_iter().eq((0..rows).map(captions)));
        assert_eq!(read_column(&path, "url").unwrap(), None);
    }

    #[test]
    fn a_table_of_json_lines_is_read_back() {
        round_trip(TableFormat::Jsonl);
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn a_table_of_parquet_is_read_back() {
        round_trip(TableFormat::Parquet);
    }

    /// `CLIP_BURN_PYTHON` is a Python with pyarrow and numpy.
    #[cfg(feature = "parquet")]
    #[test]
    #[ignore = "needs CLIP_BURN_PYTHON"]
    fn python_reads_what_is_written() {
        let python = std::env::var("CLIP_BURN_PYTHON").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("m.parquet");
        let columns = ["image_path", "caption"];
        let mut writer = TableWriter::create(&table, TableFormat::Parquet, &columns).unwrap();
        for i in 0..10_002 {
            let caption = (i % 2 == 0).then_some("ü\n");
            writer.push(&[Some(&i.to_string()), caption]).unwrap();
        }
        writer.finish().unwrap();
        for (name, float) in [
            ("f4", crate::npy::Float::F32),
            ("f2", crate::npy::Float::F16),
        ] {
            let path = folder.path().join(name).with_extension("npy");
            let mut writer = crate::npy::RowWriter::create(&path, 3, float).unwrap();
            (0..4).for_each(|i| writer.push(&[i as f32, 0.5, -2.0]).unwrap());
            writer.finish().unwrap();
        }
        let script = r#"
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
table = pq.read_table("m.parquet")
assert table.schema.names == ["image_path", "caption"], table.schema
assert all(field.type == pa.string() for field in table.schema), table.schema
rows = [{"image_path": str(i), "caption": "ü\n" if i % 2 == 0 else None} for i in range(10002)]
assert table.to_pylist() == rows
assert pq.ParquetFile("m.parquet").metadata.row_group(0).column(0).compression == "SNAPPY"
for name in ["f4", "f2"]:
    array = np.load(name + ".npy", mmap_mode="r")
    assert array.dtype == np.dtype("<" + name) and array.flags["C_CONTIGUOUS"], array.dtype
    assert array.tolist() == [[i, 0.5, -2.0] for i in range(4)]
"#;
        let run = std::process::Command::new(python)
            .args(["-c", script])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{said}");
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn parquet_without_its_feature_is_refused_with_both_remedies() {
        let error = TableWriter::create("m.parquet".as_ref(), TableFormat::Parquet, &["key"]);
        let said = error.err().unwrap().to_string();
        assert!(
            said.contains("--features parquet") && said.contains("jsonl"),
            "{said}"
        );
        assert!(TableFormat::Parquet.check().is_err() && TableFormat::Jsonl.check().is_ok());
    }
}
