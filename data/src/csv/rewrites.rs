//! LaCLIP's rewrite files: line `i` belongs to the `i`-th row of the table. There are no ids, so
//! counts must agree.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::{DataError, Place};
use crate::lines::{LineEnd, Lines, MappedFile};

/// Rewrite files of the same number of lines.
#[derive(Debug)]
pub(super) struct Rewrites {
    files: Vec<Lines>,
    lines: usize,
}

impl Rewrites {
    /// Opens `files` for a table with `rows` counted rows, `refused` others not counted.
    ///
    /// All files must have the same number of lines, and `rows` must be that number or a multiple
    /// of it: a table may list the images several times. A lone `\r` inside a rewrite is read as
    /// text if the counts agree that way, and as a line end, as Python's text mode has it, if they
    /// agree only that way.
    pub fn open(
        files: &[PathBuf],
        table: &Path,
        rows: usize,
        refused: usize,
    ) -> Result<Self, DataError> {
        let read = |end| -> Result<Vec<Lines>, DataError> {
            files
                .iter()
                .map(|path| Ok(Lines::new(MappedFile::open(path)?, end)))
                .collect()
        };
        let readings = [read(LineEnd::Newline)?, read(LineEnd::Universal)?];
        let counts = readings
            .each_ref()
            .map(|files| files.iter().map(Lines::len).collect::<Vec<_>>());
        // An exact match by either reading is better evidence than a multiple.
        let exact = counts
            .iter()
            .position(|counts| counts.iter().all(|n| *n == rows && rows > 0));
        let multiple = || {
            counts.iter().position(|counts| {
                let lines = counts.first().copied().unwrap_or(0);
                lines > 0 && rows.is_multiple_of(lines) && counts.iter().all(|n| *n == lines)
            })
        };
        if let Some(chosen) = exact.or_else(multiple) {
            let lines = counts[chosen][0];
            let [newline, universal] = readings;
            return Ok(Self {
                files: if chosen == 0 { newline } else { universal },
                lines,
            });
        }
        let list: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(i, path)| match (counts[0][i], counts[1][i]) {
                (a, b) if a == b => format!("{} has {a} lines", path.display()),
                (a, b) => format!(
                    "{} has {a} lines ({b} if a lone \\r ends a line)",
                    path.display()
                ),
            })
            .collect();
        let what = format!(
            "{rows} rows count as images (and {refused} do not, by their extension), but {}; all must have the same \
             number of lines, and the rows be that number or a multiple of it. Filter table and rewrites alike, or \
             change `image_extensions`",
            list.join(", ")
        );
        Err(DataError::malformed(table, Place::Whole, what))
    }

    /// The rewrites of a counted row.
    pub fn of_row(&self, row: usize) -> impl Iterator<Item = Cow<'_, str>> {
        self.files
            .iter()
            .map(move |file| file.text(row % self.lines))
    }
}
