//! What the files are called.

use std::path::{Path, PathBuf};

use data::strings::TableFormat;
use files::NewFolders;

use crate::error::{EvalError, Result};

/// Folder, and beginning of the names, of the embeddings of images.
pub const IMAGES: &str = "img_emb";
/// Folder, and beginning of the names, of the embeddings of captions.
pub const TEXTS: &str = "text_emb";
/// Folder, and beginning of the names, of the tables that name the rows.
pub const METADATA: &str = "metadata";
/// Folder of the notes.
pub(super) const NOTES: &str = "parts";

/// A folder of so many parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The folder that holds the others.
    pub folder: PathBuf,
    /// Number of parts.
    pub parts: usize,
}

impl Layout {
    /// Makes the folder and what lies in it; what stays empty goes again unless the answer is kept.
    ///
    /// # Errors
    ///
    /// Names the folder that cannot be made.
    pub fn create(&self, images: bool, texts: bool) -> Result<NewFolders> {
        let mut folders = NewFolders::default();
        let wanted = [
            (IMAGES, images),
            (TEXTS, texts),
            (METADATA, true),
            (NOTES, true),
        ];
        for (name, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
            let folder = self.folder.join(name);
            folders.make(&folder).map_err(EvalError::io(&folder))?;
        }
        Ok(folders)
    }

    /// The embeddings of the images of a part.
    pub fn images(&self, part: usize) -> PathBuf {
        self.file(IMAGES, part, "npy")
    }

    /// The embeddings of the captions of a part.
    pub fn texts(&self, part: usize) -> PathBuf {
        self.file(TEXTS, part, "npy")
    }

    /// What names the rows of a part.
    pub fn metadata(&self, part: usize, format: TableFormat) -> PathBuf {
        self.file(METADATA, part, format.extension())
    }

    /// The note of a part.
    pub(super) fn note(&self, part: usize) -> PathBuf {
        let digits = self.digits();
        let name = format!("part_{part:0digits$}.json");
        self.folder.join(NOTES).join(name)
    }

    /// Removes what is there of a part, its note first: whatever is left by a kill is none.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be removed.
    pub(super) fn clear(&self, part: usize) -> Result<()> {
        let metadata = |format| self.metadata(part, format);
        for path in [
            self.note(part),
            self.images(part),
            self.texts(part),
            metadata(TableFormat::Parquet),
            metadata(TableFormat::Jsonl),
        ] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(EvalError::io(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&self, kind: &str, part: usize, extension: &str) -> PathBuf {
        let digits = self.digits();
        let name = format!("{kind}_{part:0digits$}.{extension}");
        self.folder.join(kind).join(name)
    }

    /// As many as the last number has, so that names sort as the parts do.
    fn digits(&self) -> usize {
        self.parts.saturating_sub(1).to_string().len()
    }
}

/// The table that names the rows of a file of embeddings, if it lies where these lie.
pub(crate) fn metadata_of(embeddings: &Path) -> Option<PathBuf> {
    let name = embeddings.file_stem()?.to_str()?;
    let (_, number) = name.rsplit_once('_')?;
    let folder = embeddings.parent()?.parent()?.join(METADATA);
    [TableFormat::Parquet, TableFormat::Jsonl]
        .into_iter()
        .map(|format| folder.join(format!("{METADATA}_{number}.{}", format.extension())))
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_clip_retrieval_and_sort_as_the_parts() {
        let name = |parts: usize, part: usize| {
            let folder = PathBuf::from("e");
            Layout { folder, parts }.images(part)
        };
        assert_eq!(name(1, 0), Path::new("e/img_emb/img_emb_0.npy"));
        assert_eq!(name(10, 9), Path::new("e/img_emb/img_emb_9.npy"));
        assert_eq!(name(11, 9), Path::new("e/img_emb/img_emb_09.npy"));
        assert_eq!(name(101, 7), Path::new("e/img_emb/img_emb_007.npy"));
    }
}
