//! One file: where its columns lie, and the decoding of a row group.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, LogicalType, Type};
use ::parquet::column::reader::{ColumnReader, get_column_reader};
use ::parquet::data_type::ByteArray;
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use ::parquet::file::serialized_reader::SerializedPageReader;
use ::parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::ParquetConfig;
use crate::error::{DataError, Place};
use crate::problem::{Problem, Problems};

/// Rows of a row group, all of whose texts are in memory. Run lengths let a page of some bytes stand for billions.
const MAX_ROWS: usize = 1 << 22;

/// img2dataset's column that tells which images could be downloaded.
const STATUS: &str = "status";
/// What it says of those.
const SUCCESS: &[u8] = b"success";

/// The row groups of a file, and the rows of it that were dropped.
pub(super) struct Opened {
    pub groups: Vec<RowGroup>,
    pub dropped: Problems,
    /// Captions with text in the rows that can be used, for each caption field.
    pub captions: Vec<usize>,
}

/// Where the columns of a row group lie.
#[derive(Debug)]
pub(super) struct RowGroup {
    /// Number of its first row in the file.
    pub first: u64,
    /// The rows that can be used, counted from the first.
    pub usable: Vec<u32>,
    rows: usize,
    image: ColumnChunkMetaData,
    key: Option<ColumnChunkMetaData>,
    url: Option<ColumnChunkMetaData>,
    captions: Vec<ColumnChunkMetaData>,
}

/// A decoded row group.
#[derive(Debug)]
pub(super) struct Rows {
    pub image: Column,
    pub key: Option<Column>,
    pub url: Option<Column>,
    /// One for each caption field.
    pub captions: Vec<Column>,
}

/// The values of a column: none, one or a list for each row. Nulls in lists are empty.
#[derive(Debug, Default)]
pub(super) struct Column {
    values: Vec<ByteArray>,
    /// `ends[i]` is the number of values in rows `0..=i`.
    ends: Vec<usize>,
}

/// Finds the usable rows of a file, by its captions and by what it says of its images.
pub(super) fn open(path: &Path, config: &ParquetConfig) -> Result<Opened, DataError> {
    let (file, metadata) = metadata(path)?;
    let columns = Columns::find(metadata.file_metadata().schema_descr(), config)
        .map_err(|what| DataError::malformed(path, Place::Whole, what))?;
    let mut opened = Opened {
        groups: Vec::new(),
        dropped: Problems::default(),
        captions: vec![0; columns.captions.len()],
    };
    let mut first = 0;
    for group in metadata.row_groups() {
        let (group, dropped) = columns
            .row_group(&file, group, first, &mut opened.captions)
            .map_err(|error| undecoded(path, first, error))?;
        for (row, what) in dropped {
            let place = Place::Row(first + u64::from(row));
            opened.dropped.push(Problem::new(path, place, what));
        }
        first += group.rows as u64;
        opened.groups.push(group);
    }
    Ok(opened)
}

fn metadata(path: &Path) -> Result<(Arc<File>, ParquetMetaData), DataError> {
    let file = Arc::new(File::open(path).map_err(|error| DataError::io(path, error))?);
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&*file)
        .map_err(|error| {
            let what = format!(
                "cannot be read as parquet: {error}. Was it downloaded to its end? Get it again, or \
                 leave it out of `files`"
            );
            DataError::malformed(path, Place::Whole, what)
        })?;
    Ok((file, metadata))
}

/// The values of a column of strings, row by row: the first one where there are lists. `None` if the file has no such column.
///
/// # Errors
///
/// Fails if the file is damaged.
pub(crate) fn read_strings(
    path: &Path,
    name: &str,
) -> Result<Option<Vec<Option<String>>>, DataError> {
    let (file, metadata) = metadata(path)?;
    let schema = metadata.file_metadata().schema_descr();
    let Ok(column) = find(schema, name, "") else {
        return Ok(None);
    };
    if !is_text(&schema.column(column)) {
        return Ok(None);
    }
    let mut values = Vec::new();
    for group in metadata.row_groups() {
        let read = || {
            let rows = usize::try_from(group.num_rows())?;
            Ok((
                Column::read(&file, &place_of(group.column(column))?, rows)?,
                rows,
            ))
        };
        let (column, rows) = read().map_err(|e| undecoded(path, values.len() as u64, e))?;
        let text = |row: usize| {
            let value = column.row(row).first()?;
            Some(String::from_utf8_lossy(value.data()).into_owned())
        };
        values.extend((0..rows).map(text));
    }
    Ok(Some(values))
}

fn undecoded(path: &Path, row: u64, error: ParquetError) -> DataError {
    let what = format!(
        "the row group that begins here cannot be decoded: {error}. The file is damaged, or not \
         compressed by snappy, zstd or gzip; get it again, or write it anew"
    );
    DataError::malformed(path, Place::Row(row), what)
}

/// The columns that are read, by their index in the file.
struct Columns {
    image: usize,
    key: Option<usize>,
    url: Option<usize>,
    status: Option<usize>,
    captions: Vec<usize>,
}

impl Columns {
    fn find(schema: &SchemaDescriptor, config: &ParquetConfig) -> Result<Self, String> {
        let text = |name: &str, setting: &str| {
            let column = find(schema, name, setting)?;
            match is_text(&schema.column(column)) {
                true => Ok(column),
                false => Err(format!(
                    "column `{name}` holds {}, not text; change `{setting}`",
                    content(&schema.column(column))
                )),
            }
        };
        let image = find(schema, &config.image_column, "image_column")?;
        let descriptor = schema.column(image);
        if descriptor.physical_type() != Type::BYTE_ARRAY
            || is_text(&descriptor)
            || descriptor.max_rep_level() > 0
        {
            return Err(format!(
                "column `{}` holds {}, not encoded images; change `image_column`",
                config.image_column,
                content(&descriptor)
            ));
        }
        Ok(Self {
            image,
            key: match &config.key_column {
                Some(name) => Some(text(name, "key_column")?),
                None => text("key", "key_column").ok(),
            },
            url: config
                .url_column
                .as_ref()
                .and_then(|name| text(name, "url_column").ok()),
            status: text(STATUS, "").ok(),
            captions: config
                .caption_fields
                .iter()
                .map(|field| text(&field.field, "caption_fields"))
                .collect::<Result<_, _>>()?,
        })
    }

    /// A row group that begins at row `first`, with the rows that cannot be used. Counts the captions of the others
    /// by field.
    fn row_group(
        &self,
        file: &Arc<File>,
        group: &RowGroupMetaData,
        first: u64,
        captions_of: &mut [usize],
    ) -> ParquetResult<(RowGroup, Vec<(u32, String)>)> {
        let rows = usize::try_from(group.num_rows())?;
        if rows > MAX_ROWS {
            return Err(ParquetError::General(format!(
                "it says that it has {rows} rows; with images in them, at most {MAX_ROWS} are read"
            )));
        }
        let chunk = |column: usize| place_of(group.column(column));
        let image = chunk(self.image)?;
        let captions = self.captions.iter().map(|c| chunk(*c));
        let captions = captions.collect::<ParquetResult<Vec<_>>>()?;
        let texts = captions.iter().map(|c| Column::read(file, c, rows));
        let texts = texts.collect::<ParquetResult<Vec<_>>>()?;

        // Images are most of the file and had better not be read for this. Where some are missing,
        // the failed downloads tell which, if they are as many.
        let statistics = group.column(self.image).statistics();
        let nulls = match image.column_descr().max_def_level() {
            0 => Some(0),
            _ => statistics.and_then(|statistics| statistics.null_count_opt()),
        };
        let status = match self.status {
            Some(column) if nulls != Some(0) => Some(Column::read(file, &chunk(column)?, rows)?),
            _ => None,
        };
        let status = |row| status.as_ref().and_then(|status| status.row(row).first());
        let failed = |row: &usize| status(*row).is_some_and(|status| status.data() != SUCCESS);
        let images = match nulls == Some((0..rows).filter(failed).count() as u64) {
            true => None,
            false => Some(Column::read(file, &image, rows)?),
        };
        let (mut usable, mut dropped) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let no_image = match &images {
                Some(images) => images.row(row).is_empty(),
                None => failed(&row),
            };
            let blank = |text: &ByteArray| text.data().trim_ascii().is_empty();
            if no_image {
                let status = status(row).map(|status| String::from_utf8_lossy(status.data()));
                let why = status.map_or(String::new(), |status| {
                    format!("; its status is `{status}`")
                });
                dropped.push((row as u32, format!("no image{why}")));
            } else if !texts.is_empty() && texts.iter().all(|text| text.row(row).iter().all(blank))
            {
                dropped.push((row as u32, "no caption".into()));
            } else {
                usable.push(row as u32);
                for (count, text) in captions_of.iter_mut().zip(&texts) {
                    *count += text.row(row).iter().filter(|text| !blank(text)).count();
                }
            }
        }
        let group = RowGroup {
            first,
            usable,
            rows,
            image,
            key: self.key.map(chunk).transpose()?,
            url: self.url.map(chunk).transpose()?,
            captions,
        };
        Ok((group, dropped))
    }
}

/// The column `name`, or the only column inside of it.
fn find(schema: &SchemaDescriptor, name: &str, setting: &str) -> Result<usize, String> {
    let paths: Vec<_> = schema.columns().iter().map(|c| c.path().string()).collect();
    let inside = |path: &String| {
        let rest = path.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let found: Vec<_> = (0..paths.len()).filter(|i| inside(&paths[*i])).collect();
    match found.as_slice() {
        [column] => Ok(*column),
        [] => Err(format!(
            "there is no column `{name}`; the file has {paths:?}. Change `{setting}`"
        )),
        parts => {
            let parts: Vec<_> = parts.iter().map(|i| &paths[*i]).collect();
            Err(format!(
                "column `{name}` has the parts {parts:?}; name one in `{setting}`"
            ))
        }
    }
}

fn is_text(column: &ColumnDescriptor) -> bool {
    column.converted_type() == ConvertedType::UTF8
        || column.logical_type_ref() == Some(&LogicalType::String)
}

/// What a column holds, in words.
fn content(column: &ColumnDescriptor) -> String {
    let lists = if column.max_rep_level() > 0 {
        "lists of "
    } else {
        ""
    };
    match column.physical_type() {
        _ if is_text(column) => format!("{lists}text"),
        Type::BYTE_ARRAY => format!("{lists}bytes"),
        other => format!("{lists}{other}"),
    }
}

/// What is needed to read a column of a row group, without its statistics.
fn place_of(chunk: &ColumnChunkMetaData) -> ParquetResult<ColumnChunkMetaData> {
    let start = chunk
        .dictionary_page_offset()
        .unwrap_or(chunk.data_page_offset());
    // `byte_range` panics on these.
    if start < 0 || chunk.compressed_size() < 0 {
        return Err(ParquetError::General(
            "a column has a negative place".into(),
        ));
    }
    chunk
        .clone()
        .into_builder()
        .clear_statistics()
        .clear_page_encoding_stats()
        .build()
}

impl RowGroup {
    /// Decodes all rows. `path` is the file that the row group was found in.
    pub fn read(&self, path: &Path) -> Result<Rows, DataError> {
        // A file of its own, because clones of one share their position.
        let file = Arc::new(File::open(path).map_err(|error| DataError::io(path, error))?);
        let column = |chunk| {
            Column::read(&file, chunk, self.rows)
                .map_err(|error| undecoded(path, self.first, error))
        };
        Ok(Rows {
            image: column(&self.image)?,
            key: self.key.as_ref().map(column).transpose()?,
            url: self.url.as_ref().map(column).transpose()?,
            captions: self.captions.iter().map(column).collect::<Result<_, _>>()?,
        })
    }
}

impl Rows {
    /// The memory it takes, about.
    pub fn bytes(&self) -> usize {
        let columns = self.captions.iter().chain(&self.key);
        let columns = columns.chain(&self.url).chain([&self.image]);
        let values = columns.flat_map(|column| &column.values);
        values
            .map(|value| value.len() + size_of::<ByteArray>())
            .sum()
    }

    /// A single row that is an image.
    #[cfg(test)]
    pub fn of_image(image: Vec<u8>) -> Self {
        let image = Column {
            values: vec![image.into()],
            ends: vec![1],
        };
        Self {
            image,
            key: None,
            url: None,
            captions: Vec::new(),
        }
    }
}

impl Column {
    fn read(file: &Arc<File>, chunk: &ColumnChunkMetaData, rows: usize) -> ParquetResult<Self> {
        // The decoders rely on some of what a damaged page may say, and panic where it is untrue.
        catch_unwind(AssertUnwindSafe(|| Self::decode(file, chunk, rows)))
            .unwrap_or_else(|_| Err(ParquetError::General("a page contradicts itself".into())))
    }

    fn decode(file: &Arc<File>, chunk: &ColumnChunkMetaData, rows: usize) -> ParquetResult<Self> {
        let pages = SerializedPageReader::new(file.clone(), chunk, rows, None)?;
        let descriptor = chunk.column_descr_ptr();
        let present = descriptor.max_def_level();
        let in_list = descriptor.max_rep_level() > 0;
        // A list keeps the places of its nulls.
        let null_in_list = (in_list && descriptor.self_type().is_optional()).then(|| present - 1);
        let ColumnReader::ByteArrayColumnReader(mut reader) =
            get_column_reader(descriptor, Box::new(pages))
        else {
            return Err(ParquetError::General("a column changed its type".into()));
        };
        let (mut column, mut stored) = (Self::default(), Vec::new());
        // A level pair for every value and for every null or empty list. Columns that can have
        // neither nulls nor lists have no levels.
        let (mut definition, mut repetition) = (Vec::new(), Vec::new());
        let (read, _, levels) = reader.read_records(
            rows,
            Some(&mut definition),
            Some(&mut repetition),
            &mut stored,
        )?;
        let mut stored = stored.into_iter();
        for level in 0..levels {
            let begins_row = repetition.get(level).is_none_or(|level| *level == 0);
            if begins_row && level > 0 {
                column.ends.push(column.values.len());
            }
            let defined = definition.get(level).copied().unwrap_or(present);
            if defined == present {
                column.values.extend(stored.next());
            } else if Some(defined) == null_in_list {
                column.values.push(ByteArray::from(""));
            }
        }
        if levels > 0 {
            column.ends.push(column.values.len());
        }
        if read != rows || column.ends.len() != rows || stored.next().is_some() {
            return Err(ParquetError::General(format!(
                "{read} rows in a column instead of {rows}"
            )));
        }
        Ok(column)
    }

    /// The values of a row.
    pub fn row(&self, row: usize) -> &[ByteArray] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.values[start..self.ends[row]]
    }
}
