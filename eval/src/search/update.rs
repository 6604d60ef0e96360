//! What has changed on disk since an index was written, and the index that follows from it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::index::{Content, Index, IndexModel, Stamp};
use crate::error::{EvalError, Result};
use crate::extract::ImageFeatures;
use crate::images::ImageRef;

/// How many images differ from an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Not in the index.
    pub came: usize,
    /// In the index, and no longer asked for.
    pub went: usize,
    /// In the index, and the file has another size or time since.
    pub changed: usize,
}

impl Changes {
    /// True if the index is as it should be.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The images that an index shall hold, and which of them must be embedded for it.
#[derive(Clone, Debug)]
pub struct Update {
    images: Vec<Planned>,
    changes: Changes,
}

#[derive(Clone, Debug)]
struct Planned {
    path: PathBuf,
    /// Taken before the image is read: one that changes meanwhile is known as changed the next time.
    stamp: Option<Stamp>,
    /// Its row in the old index, if it can stay.
    row: Option<usize>,
}

impl Update {
    /// Compares files with an index, if there is one. A file that is named twice counts once.
    ///
    /// # Errors
    ///
    /// If the index does not say which images it holds, or when they were changed.
    pub fn plan(images: &[PathBuf], index: Option<&Index>) -> Result<Self> {
        let (mut known, mut places) = (HashMap::new(), Places::default());
        if let Some(index) = index.filter(|index| !index.is_empty()) {
            let Some(images) = index.images() else {
                let reason = "embeddings that no index of images made, so it cannot be updated; write the index to \
                              another file";
                return Err(EvalError::format(index.path(), reason));
            };
            for (row, (path, stamp)) in images.enumerate() {
                known.insert(places.of(&path), (row, stamp));
            }
        }
        let (mut seen, mut changes) = (BTreeSet::new(), Changes::default());
        let mut planned = Vec::with_capacity(images.len());
        for path in images {
            let place = places.of(path);
            if seen.contains(&place) {
                continue;
            }
            let stamp = Stamp::of(path);
            let row = match known.remove(&place) {
                Some((row, then)) if Some(then) == stamp => Some(row),
                Some(_) => {
                    changes.changed += 1;
                    None
                }
                None => {
                    changes.came += 1;
                    None
                }
            };
            seen.insert(place);
            planned.push(Planned {
                path: path.clone(),
                stamp,
                row,
            });
        }
        changes.went = known.len();
        Ok(Self {
            images: planned,
            changes,
        })
    }

    /// How many images differ.
    pub fn changes(&self) -> Changes {
        self.changes
    }

    /// The images that must be embedded, in the order of the index.
    pub fn to_embed(&self) -> Vec<ImageRef> {
        let new = self.images.iter().filter(|image| image.row.is_none());
        new.map(|image| ImageRef::File(image.path.clone()))
            .collect()
    }

    /// The same with no more than `limit` images to embed, the others left for a later update; `None` if there are no others.
    pub fn first(&self, limit: usize) -> Option<Self> {
        let mut new = 0;
        let images = self.images.iter().filter(|image| {
            new += usize::from(image.row.is_none());
            image.row.is_some() || new <= limit
        });
        let images: Vec<Planned> = images.cloned().collect();
        (images.len() < self.images.len()).then_some(Self {
            images,
            changes: self.changes,
        })
    }

    /// Writes the new index: rows of the old one where they can stay, and those of the images that were
    /// [to be embedded](Self::to_embed). Images that could not be read are left out. Gives the number of images in it.
    ///
    /// # Errors
    ///
    /// Names the file that could not be written, or an old index of another width.
    pub fn write(
        self,
        index: Option<&Index>,
        embedded: &ImageFeatures,
        model: IndexModel,
        scale: f32,
        path: &Path,
    ) -> Result<usize> {
        let dim = embedded.features.dim();
        if let Some(index) = index.filter(|index| index.features().dim() != dim) {
            let reason = format!(
                "rows have {} numbers, the model's {dim}; write the index to another file",
                index.features().dim()
            );
            return Err(EvalError::format(index.path(), reason));
        }
        let mut content = Content {
            images: Vec::new(),
            stamps: Vec::new(),
            rows: Vec::new(),
            dim,
            scale,
            model,
        };
        let mut row = vec![0.0; dim];
        let (mut to_embed, mut read) = (0, embedded.kept.iter().enumerate().peekable());
        for image in self.images {
            match (image.row, index) {
                (Some(old), Some(index)) => index.features().copy_row(old, &mut row),
                _ => {
                    let place = to_embed;
                    to_embed += 1;
                    let Some((new, _)) = read.next_if(|(_, kept)| **kept == place) else {
                        continue; // could not be read
                    };
                    embedded.features.copy_unit_row(new, &mut row);
                }
            }
            content.rows.extend_from_slice(&row);
            // Of a file that nobody could ask for its state none is known; it will count as changed.
            content.stamps.push(image.stamp.unwrap_or(Stamp(0, 0)));
            content.images.push(ImageRef::File(image.path).name());
        }
        let len = content.images.len();
        content.write(path)?;
        Ok(len)
    }
}

/// Where files lie, however they are named. A folder is asked for once; of a link the place counts, and not what it leads to.
#[derive(Default)]
struct Places {
    folders: HashMap<PathBuf, PathBuf>,
}

impl Places {
    fn of(&mut self, path: &Path) -> PathBuf {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return absolute;
        };
        if let Some(folder) = self.folders.get(folder) {
            return folder.join(name);
        }
        // A folder that is gone holds no image that is asked for.
        let found = folder.canonicalize().unwrap_or_else(|_| folder.into());
        let place = found.join(name);
        self.folders.insert(folder.into(), found);
        place
    }
}

#[cfg(test)]
mod tests;
