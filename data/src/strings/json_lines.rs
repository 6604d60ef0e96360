//! One JSON object per line.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use files::Unfinished;
use serde_json::{Map, Value};

use crate::error::{DataError, Place};

/// Writes a line for each row.
pub(super) struct Writer {
    file: BufWriter<Unfinished>,
    columns: Vec<String>,
}

impl Writer {
    pub fn create(path: &Path, columns: &[&str]) -> Result<Self, DataError> {
        let file = Unfinished::create(path).map_err(|error| DataError::io(path, error))?;
        Ok(Self {
            file: BufWriter::new(file),
            columns: columns.iter().map(|column| column.to_string()).collect(),
        })
    }

    pub fn push(&mut self, row: &[Option<&str>]) -> Result<(), DataError> {
        assert_eq!(row.len(), self.columns.len(), "a value for each column");
        let value = |value: &Option<&str>| value.map_or(Value::Null, Value::from);
        let columns = self.columns.iter().cloned();
        let object: Map<String, Value> = columns.zip(row.iter().map(value)).collect();
        let line = Value::Object(object).to_string() + "\n";
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|error| DataError::io(self.file.get_ref().path(), error))
    }

    pub fn finish(self) -> Result<(), DataError> {
        let path = self.file.get_ref().path().to_path_buf();
        let file = self.file.into_inner().map_err(|error| error.into_error());
        file.and_then(Unfinished::finish)
            .map_err(|error| DataError::io(path, error))
    }
}

pub(super) fn read(path: &Path, column: &str) -> Result<Option<Vec<Option<String>>>, DataError> {
    let io = |error| DataError::io(path, error);
    let file = BufReader::new(File::open(path).map_err(io)?);
    let (mut values, mut found) = (Vec::new(), false);
    for (number, line) in (1..).zip(file.lines()) {
        let object: Map<String, Value> =
            serde_json::from_str(&line.map_err(io)?).map_err(|error| {
                let what = format!("no JSON object: {error}");
                DataError::malformed(path, Place::Line(number), what)
            })?;
        let value = object.get(column);
        found |= value.is_some();
        values.push(value.and_then(Value::as_str).map(str::to_owned));
    }
    Ok(found.then_some(values))
}
