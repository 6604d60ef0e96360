//! Rows that know what they are embeddings of, so that they need no order.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;

use safetensors::SafeTensors;

use super::{Features, IMAGE_FEATURES, IMAGE_PATHS, TEXT_FEATURES, TEXTS};
use crate::error::{EvalError, Result};
use crate::images::ImageRef;

/// The names that a file's metadata gives to the `len` rows of one side, if it does.
pub(super) fn of_rows(
    bytes: &[u8],
    side: &str,
    len: usize,
) -> std::result::Result<Option<Vec<String>>, String> {
    let key = match side {
        IMAGE_FEATURES => IMAGE_PATHS,
        TEXT_FEATURES => TEXTS,
        _ => return Ok(None),
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let Some(json) = metadata.metadata().as_ref().and_then(|m| m.get(key)) else {
        return Ok(None);
    };
    let names: Vec<String> = serde_json::from_str(json)
        .map_err(|error| format!("`{key}` of the metadata is no list of strings: {error}"))?;
    match names.len() {
        0 => Ok(None),
        n if n == len => Ok(Some(names)),
        n => Err(format!(
            "`{key}` of the metadata has {n} entries for {len} rows"
        )),
    }
}

/// Features as they are, or some of their rows in another order.
pub enum Arranged<'a> {
    /// As they are.
    AsIs(&'a Features),
    /// Arranged.
    Rows(Features),
}

impl Deref for Arranged<'_> {
    type Target = Features;

    fn deref(&self) -> &Features {
        match self {
            Self::AsIs(features) => features,
            Self::Rows(features) => features,
        }
    }
}

impl Features {
    /// The image path or text of each row, where the file names them.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// One row for each image, in their order: rows that know their image are found by its path, or by its file name
    /// where the folder was moved and file names are unique. Rows without names are taken as they are.
    ///
    /// # Errors
    ///
    /// Names the first image without a row.
    pub fn for_images(&self, images: &[ImageRef]) -> Result<Arranged<'_>> {
        let Some(names) = &self.names else {
            return Ok(Arranged::AsIs(self));
        };
        let wanted: Vec<String> = images.iter().map(ImageRef::name).collect();
        let rows = find(names, &wanted)
            .or_else(|_| find(&each(names, absolute), &each(&wanted, absolute)))
            .or_else(|missing| match (unique(names), unique(&wanted)) {
                (Some(names), Some(wanted)) => find(&names, &wanted),
                _ => Err(missing),
            });
        let rows = rows.map_err(|missing| {
            EvalError::Features(format!(
                "no embedding of {}; the file has those of {} images, the first is {}",
                wanted[missing],
                names.len(),
                names[0]
            ))
        })?;
        Ok(self.arranged(rows))
    }

    /// One row for each text, in their order, where rows know their texts; else they are taken as they are.
    ///
    /// # Errors
    ///
    /// Names the first text without a row.
    pub fn for_texts(&self, texts: &[String]) -> Result<Arranged<'_>> {
        let Some(names) = &self.names else {
            return Ok(Arranged::AsIs(self));
        };
        let rows = find(names, texts).map_err(|missing| {
            EvalError::Features(format!(
                "no embedding of the text `{}`; the file has those of {} texts, the first is `{}`",
                texts[missing],
                names.len(),
                names[0]
            ))
        })?;
        Ok(self.arranged(rows))
    }

    fn arranged(&self, rows: Vec<usize>) -> Arranged<'_> {
        if rows.len() == self.len && rows.iter().enumerate().all(|(i, row)| i == *row) {
            return Arranged::AsIs(self);
        }
        Arranged::Rows(self.select(&rows))
    }
}

/// The row of each of `wanted`, or the place of the first that has none. Of equal names the first row counts.
fn find<S: Borrow<str>>(names: &[S], wanted: &[S]) -> std::result::Result<Vec<usize>, usize> {
    let mut row_of: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for (row, name) in names.iter().enumerate() {
        row_of.entry(name.borrow()).or_insert(row);
    }
    let rows = wanted.iter().enumerate();
    rows.map(|(place, name)| row_of.get(name.borrow()).copied().ok_or(place))
        .collect()
}

fn each(names: &[String], change: impl Fn(&str) -> String) -> Vec<String> {
    names.iter().map(|name| change(name)).collect()
}

fn absolute(name: &str) -> String {
    std::path::absolute(name).map_or_else(|_| name.into(), |path| path.display().to_string())
}

/// File names, if no two are the same.
fn unique(names: &[String]) -> Option<Vec<String>> {
    let file = |name: &str| {
        Path::new(name)
            .file_name()
            .map_or(name.into(), |n| n.to_string_lossy().into())
    };
    let names = each(names, file);
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    sorted
        .windows(2)
        .all(|pair| pair[0] != pair[1])
        .then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{Dtype, TensorView};

    /// A file of one-dimensional embeddings 0, 1, ... with these names.
    fn file(dir: &Path, side: &str, key: &str, names: &[&str]) -> Result<Features> {
        let rows: Vec<u8> = (0..3).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![3, 1], &rows).unwrap();
        let json = serde_json::to_string(names).unwrap();
        let metadata = HashMap::from([(key.to_owned(), json)]);
        let bytes = safetensors::serialize([(side, view)], Some(metadata)).unwrap();
        let path = dir.join("f.safetensors");
        std::fs::write(&path, bytes).unwrap();
        Features::open(&path, side)
    }

    fn images(paths: &[&str]) -> Vec<ImageRef> {
        paths
            .iter()
            .map(|path| ImageRef::File(path.into()))
            .collect()
    }

    #[test]
    fn a_reversed_list_of_images_gives_the_same_rows() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["d/c.jpg", "d/b.jpg", "d/a.jpg"];
        let features = file(dir.path(), IMAGE_FEATURES, "image_paths", &names).unwrap();
        let rows = |paths: &[&str]| features.for_images(&images(paths)).map(|f| f.to_vec());
        assert_eq!(
            rows(&["d/a.jpg", "d/b.jpg", "d/c.jpg"]).unwrap(),
            [2.0, 1.0, 0.0]
        );
        assert_eq!(rows(&["d/b.jpg"]).unwrap(), [1.0]);
        // The folder was moved.
        assert_eq!(
            rows(&["/elsewhere/b.jpg", "/elsewhere/c.jpg"]).unwrap(),
            [1.0, 0.0]
        );
        let said = rows(&["d/b.jpg", "d/x.jpg"]).unwrap_err().to_string();
        assert!(
            said.contains("no embedding of d/x.jpg") && said.contains("3 images"),
            "{said}"
        );
        // File names that are not unique say nothing.
        assert!(rows(&["e/a.jpg", "f/a.jpg"]).is_err());
    }

    #[test]
    fn texts_are_found_by_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let features = file(dir.path(), TEXT_FEATURES, "texts", &["x", "y", "z"]).unwrap();
        let rows = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| t.to_string()).collect();
            features.for_texts(&texts).map(|f| f.to_vec())
        };
        assert_eq!(rows(&["z", "x", "x"]).unwrap(), [2.0, 0.0, 0.0]);
        assert!(
            rows(&["1", "2", "3"])
                .unwrap_err()
                .to_string()
                .contains("`1`")
        );
        assert!(rows(&["z", "w"]).unwrap_err().to_string().contains("`w`"));
        let short = file(dir.path(), TEXT_FEATURES, "texts", &["x"])
            .unwrap_err()
            .to_string();
        assert!(short.contains("1 entries for 3 rows"), "{short}");
    }
}
