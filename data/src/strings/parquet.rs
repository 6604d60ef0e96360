//! Parquet: optional columns of UTF-8, some thousand rows to a row group.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::Type;
use files::Unfinished;

use crate::error::DataError;

/// Rows that are kept in memory until they are written.
const GROUP: usize = 10_000;

/// Writes a row group whenever enough rows have come.
pub(super) struct Writer {
    file: SerializedFileWriter<Unfinished>,
    path: PathBuf,
    /// The values of each column, and for each row whether there is one.
    columns: Vec<(Vec<ByteArray>, Vec<i16>)>,
}

impl Writer {
    pub fn create(path: &Path, columns: &[&str]) -> Result<Self, DataError> {
        let file = Unfinished::create(path).map_err(|error| DataError::io(path, error))?;
        let settings = WriterProperties::builder().set_compression(Compression::SNAPPY);
        let file = schema(columns)
            .and_then(|schema| {
                SerializedFileWriter::new(file, Arc::new(schema), Arc::new(settings.build()))
            })
            .map_err(|error| unwritten(path, error))?;
        Ok(Self {
            file,
            path: path.into(),
            columns: vec![Default::default(); columns.len()],
        })
    }

    pub fn push(&mut self, row: &[Option<&str>]) -> Result<(), DataError> {
        assert_eq!(row.len(), self.columns.len(), "a value for each column");
        for ((values, there), value) in self.columns.iter_mut().zip(row) {
            there.push(i16::from(value.is_some()));
            values.extend(value.map(ByteArray::from));
        }
        match self.columns.first() {
            Some((_, there)) if there.len() == GROUP => self.write_group(),
            _ => Ok(()),
        }
    }

    pub fn finish(mut self) -> Result<(), DataError> {
        if self.columns.iter().any(|(_, there)| !there.is_empty()) {
            self.write_group()?;
        }
        let file = self.file.into_inner();
        let file = file.map_err(|error| unwritten(&self.path, error))?;
        file.finish()
            .map_err(|error| DataError::io(&self.path, error))
    }

    fn write_group(&mut self) -> Result<(), DataError> {
        let mut write = || {
            let mut group = self.file.next_row_group()?;
            for (values, there) in &mut self.columns {
                let mut column = group.next_column()?.expect("as many as in the schema");
                column
                    .typed::<ByteArrayType>()
                    .write_batch(values, Some(there), None)?;
                column.close()?;
                values.clear();
                there.clear();
            }
            group.close()
        };
        write()
            .map(drop)
            .map_err(|error| unwritten(&self.path, error))
    }
}

fn schema(columns: &[&str]) -> ParquetResult<Type> {
    let column = |name: &&str| {
        Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(Some(LogicalType::String))
            .build()
            .map(Arc::new)
    };
    let columns = columns.iter().map(column).collect::<ParquetResult<_>>()?;
    Type::group_type_builder("schema")
        .with_fields(columns)
        .build()
}

fn unwritten(path: &Path, error: ParquetError) -> DataError {
    DataError::io(path, std::io::Error::other(error))
}
