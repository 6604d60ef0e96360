//! What a part says of itself, so that parts of different work never lie beside each other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::{Layout, NOTES};
use crate::embedded::Work;
use crate::error::{EvalError, Result};
use crate::files;

/// Reasons that a note keeps.
pub(super) const REASONS: usize = 20;

/// The note of a part, which makes it whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartNote {
    /// Its number, from 0.
    pub part: usize,
    /// How many there are.
    pub parts: usize,
    /// Rows that were written.
    pub rows: usize,
    /// Rows that were left out.
    pub left_out: usize,
    /// Why, the first of them.
    pub reasons: Vec<String>,
    /// Captions that lost their end because the context is too short, if the model can tell.
    pub truncated: Option<usize>,
    /// The factor by which cosines become logits, if the model has learned one.
    pub logit_scale: Option<f32>,
    /// What all parts have in common.
    pub of: Work,
}

impl PartNote {
    /// Looks for a part that an earlier process made. One that is cut, or lacks a file, counts as none.
    ///
    /// # Errors
    ///
    /// When it is a part of other work: says in what that differs.
    pub(super) fn find(
        layout: &Layout,
        part: usize,
        work: &Work,
        files: &[PathBuf],
    ) -> Result<Option<Self>> {
        let path = layout.note(part);
        let Some(note) = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
        else {
            return Ok(None);
        };
        match work.difference(&note.of) {
            Some(difference) => Err(EvalError::format(
                &path,
                format!(
                    "this part is there already and holds {difference}; overwrite it, or name another folder"
                ),
            )),
            None => Ok(files.iter().all(|file| file.exists()).then_some(note)),
        }
    }

    /// The notes of a folder, in the order of their names.
    ///
    /// # Errors
    ///
    /// Names the one that cannot be read.
    pub(super) fn all(folder: &Path) -> Result<Vec<(PathBuf, Self)>> {
        let mut paths = files::sorted_entries(&folder.join(NOTES))?;
        paths.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        });
        let notes = paths.into_iter().map(|path| {
            let note = files::read_json(&path, "the note of a part")?;
            Ok((path, note))
        });
        notes.collect()
    }

    pub(super) fn write(&self, layout: &Layout) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).expect("plain fields");
        files::write(&layout.note(self.part), &json)
    }
}
