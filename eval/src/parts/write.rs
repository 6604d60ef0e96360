//! One part on its way to the disk: no more of it than a batch is in memory.

use std::path::Path;

use data::npy::{Float, RowWriter};
use data::strings::TableWriter;

use super::layout::Layout;
use super::run::Settings;
use crate::error::Result;
use crate::features::check_fits;

/// The files of a part.
pub(super) struct PartWriter {
    images: Option<RowWriter>,
    texts: Option<RowWriter>,
    table: TableWriter,
    float: Float,
    /// Rows that were written.
    pub rows: usize,
}

/// Embeddings of some rows, and what names these.
pub(super) struct Embedded {
    pub images: Option<Vec<f32>>,
    pub texts: Option<Vec<f32>>,
    pub named: Vec<Vec<Option<String>>>,
}

impl PartWriter {
    pub fn create(
        layout: &Layout,
        part: usize,
        settings: &Settings,
        columns: &[&str],
        (images, texts, dim): (bool, bool, usize),
    ) -> Result<Self> {
        let float = settings.float;
        let rows = |wanted: bool, path: &Path| {
            let writer = wanted.then(|| RowWriter::create(path, dim, float));
            writer.transpose()
        };
        let table = layout.metadata(part, settings.metadata);
        Ok(Self {
            images: rows(images, &layout.images(part))?,
            texts: rows(texts, &layout.texts(part))?,
            table: TableWriter::create(&table, settings.metadata, columns)?,
            float,
            rows: 0,
        })
    }

    pub fn push(&mut self, embedded: &Embedded) -> Result<()> {
        let tables = [
            (&mut self.images, &embedded.images, "image"),
            (&mut self.texts, &embedded.texts, "text"),
        ];
        for (writer, values, what) in tables {
            if let (Some(writer), Some(values)) = (writer, values) {
                check_fits(values, self.float, what)?;
                writer.push(values)?;
            }
        }
        for row in &embedded.named {
            let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            self.table.push(&row)?;
        }
        self.rows += embedded.named.len();
        Ok(())
    }

    /// Puts the files in their places.
    pub fn finish(self) -> Result<()> {
        self.table.finish()?;
        for rows in [self.texts, self.images].into_iter().flatten() {
            rows.finish()?;
        }
        Ok(())
    }
}
