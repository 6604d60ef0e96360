//! A store by several processes: each writes a range of its files, and a note beside them when all of these are there.

use std::collections::BTreeMap;
use std::path::Path;

use files::Shard;
use serde::{Deserialize, Serialize};

use super::part::write_whole;
use super::{INDEX, Store, StoreInfo, StoreWriter};
use crate::error::{DataError, Place};

/// What all shares of a store have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreWork {
    /// What the store will hold.
    pub info: StoreInfo,
    /// A digest of the source.
    pub list: String,
    /// What else decides the numbers: backend, precision, texts at a time.
    pub options: BTreeMap<String, String>,
}

/// The note of a share whose files are all there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    share: String,
    of: StoreWork,
    unread: usize,
}

/// What was put together.
#[derive(Debug)]
pub struct MergedStore {
    /// The store.
    pub store: Store,
    /// Number of shares.
    pub shares: usize,
    /// Samples that could not be read.
    pub unread: usize,
}

impl StoreWork {
    /// In what other work differs from this; where the language model lies makes no difference.
    fn difference(&self, other: &Self) -> Option<String> {
        let mut said = Vec::new();
        if (self.info.samples, &self.list) != (other.info.samples, &other.list) {
            said.push(format!(
                "another source ({} samples, digest {}, not {}, {})",
                other.info.samples, other.list, self.info.samples, self.list
            ));
        }
        let settings = |work: &Self| StoreInfo {
            llm_path: String::new(),
            samples: 0,
            ..work.info.clone()
        };
        if settings(self) != settings(other) {
            let say = |info: &StoreInfo| {
                let names = info.fields.join(", ");
                let (llm, path, part) = (&info.llm, &info.llm_path, info.part);
                format!(
                    "[{names}] by {path} ({llm}), {:?}, {part} samples in a file",
                    info.dtype
                )
            };
            said.push(format!("{}, not {}", say(&other.info), say(&self.info)));
        }
        if self.options != other.options {
            said.push(format!("{:?}, not {:?}", other.options, self.options));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }
}

impl StoreWriter {
    /// Refuses to go on with a share that was made otherwise: its files would be kept, and called what they are not.
    ///
    /// # Errors
    ///
    /// Names its note and what differs.
    pub fn check_share(&self, share: Shard, work: &StoreWork) -> Result<(), DataError> {
        let path = share.path(&self.folder.join(INDEX));
        if !path.is_file() {
            return Ok(());
        }
        match work.difference(&Note::read(&path)?.of) {
            None => Ok(()),
            Some(difference) => {
                let what = format!(
                    "this share was made of {difference}; choose another folder, or remove this one"
                );
                Err(DataError::malformed(&path, Place::Whole, what))
            }
        }
    }

    /// Says that all files of a share are there, in a note beside them. Where the store is finished already, there is nothing to
    /// say.
    ///
    /// # Errors
    ///
    /// Names the file that is missing, and the note that cannot be written.
    pub fn finish_share(
        &self,
        share: Shard,
        work: &StoreWork,
        unread: usize,
    ) -> Result<(), DataError> {
        self.check(share.range(self.parts()))?;
        if Store::open(&self.folder).is_ok_and(|store| store.info == work.info) {
            return Ok(());
        }
        let note = Note {
            share: share.to_string(),
            of: work.clone(),
            unread,
        };
        let text = serde_json::to_string_pretty(&note).expect("plain fields") + "\n";
        write_whole(&share.path(&self.folder.join(INDEX)), text.as_bytes())
    }
}

impl Note {
    fn read(path: &Path) -> Result<Self, DataError> {
        let text = std::fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
        serde_json::from_str(&text).map_err(|error| {
            let what = format!("not the note of a share: {error}; remove it");
            DataError::malformed(path, Place::Whole, what)
        })
    }
}

/// Makes a folder in which all shares are done a store, as a single process leaves it: writes its index and removes the notes.
///
/// # Errors
///
/// Names the shares that are missing or there twice, a share of another source, of another language model or made with other
/// options, and a file that is missing or cut.
pub fn merge(folder: &Path) -> Result<MergedStore, DataError> {
    let index = folder.join(INDEX);
    let notes = Shard::files(&index).map_err(|error| DataError::io(folder, error))?;
    let wrong = |path: &Path, what: String| DataError::malformed(path, Place::Whole, what);
    let mut found = Vec::new();
    for path in notes {
        let note = Note::read(&path)?;
        let share: Shard = note.share.parse().map_err(|what| wrong(&path, what))?;
        found.push((share, path, note));
    }
    let shares = Shard::complete(&index, found)
        .map_err(|what| wrong(folder, format!("cannot be put together: {what}")))?;
    let (first_path, first) = &shares[0];
    for (path, note) in &shares {
        if let Some(difference) = first.of.difference(&note.of) {
            let what = format!(
                "does not go together with {}: it was made of {difference}",
                first_path.display()
            );
            return Err(wrong(path, what));
        }
    }
    let store = StoreWriter::open(folder, first.of.info.clone())?.finish()?;
    for (path, _) in &shares {
        std::fs::remove_file(path).map_err(|error| DataError::io(path, error))?;
    }
    Ok(MergedStore {
        store,
        shares: shares.len(),
        unread: shares.iter().map(|(_, note)| note.unread).sum(),
    })
}
