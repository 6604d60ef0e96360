//! What vectors were made of, in a few letters.

use super::row_of;
use crate::error::{Error, Result};
use data::Source;
use data::store::Row;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// What the vectors of a sibling shard were made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MadeOf {
    llm: String,
    fields: Vec<String>,
    captions: String,
}

impl MadeOf {
    pub fn new(llm: &str, fields: &[String], rows: &[Row]) -> Self {
        Self {
            llm: llm.into(),
            fields: fields.to_vec(),
            captions: hex(Sha256::new_with_prefix(captions_of(rows))),
        }
    }

    /// Whether a note says the same.
    ///
    /// # Errors
    ///
    /// When it names another language model or other captions: the vectors would not go together.
    pub fn is_said_in(&self, note: &Path) -> Result<bool> {
        if !note.is_file() {
            return Ok(false);
        }
        let text = std::fs::read_to_string(note).map_err(Error::io(note))?;
        let said: Self =
            serde_json::from_str(&text).map_err(|e| Error::format(note, e.to_string()))?;
        if said == *self {
            return Ok(true);
        }
        let what = match said.llm == self.llm {
            true => "other captions",
            false => "another language model",
        };
        let problem = format!(
            "the vectors beside it were made of {what}; remove both files to make them again"
        );
        Err(Error::format(note, problem))
    }
}

/// A digest of a source: of its length and of the samples with which the files of a store begin. It tells sources apart without
/// reading all of every source in every process; a caption that is another one is found when its vector is asked for.
pub(super) fn digest_of(source: &dyn Source, fields: &[String], part: usize) -> String {
    let first = (0..source.len()).step_by(part);
    let rows = first.map(|index| row_of(source.get(index).ok(), fields));
    let rows: Vec<Row> = rows.collect();
    let mut hash = Sha256::new_with_prefix(source.len().to_le_bytes());
    hash.update(captions_of(&rows));
    hex(hash)
}

/// The first sixteen hexadecimal digits.
fn hex(hash: Sha256) -> String {
    let digest = hash.finalize();
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Keys and captions as text.
fn captions_of(rows: &[Row]) -> String {
    let row = |row: &Row| serde_json::to_string(&(&row.key, &row.captions)).expect("texts");
    rows.iter().map(row).collect()
}
