//! The images below a folder, and what lies among them and is passed over.

use std::fs;
use std::path::{Path, PathBuf};

use super::is_image_name;
use crate::error::{DataError, Place};
use crate::report::Tally;

/// Extensions of images in formats that are not decoded, in lower case.
const UNREAD: [&str; 13] = [
    "tif", "tiff", "avif", "heic", "heif", "jp2", "jxl", "svg", "ico", "tga", "psd", "ppm", "pgm",
];

/// An image below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path from the folder.
    pub path: PathBuf,
    /// Whether a `.txt` of the same name lies beside it.
    pub has_text: bool,
}

/// The images below a folder, sorted by path, at whatever depth. Links are followed.
///
/// Hidden images (`._a.jpg` of macOS), hidden folders (`.ipynb_checkpoints`) and images of a format
/// that is not decoded (TIFF, AVIF) are passed over and counted in `passed_over`; other files are
/// none of its business.
///
/// # Errors
///
/// Fails if a folder cannot be read, and where links lead in circles.
pub fn images_below(folder: &Path, passed_over: &mut Tally) -> Result<Vec<Listed>, DataError> {
    let mut images = Vec::new();
    list(folder, Path::new(""), 0, &mut images, passed_over)?;
    Ok(images)
}

/// The names of the folders in a folder, sorted; hidden ones are passed over and counted.
///
/// # Errors
///
/// Fails if the folder cannot be read.
pub fn subfolders(folder: &Path, passed_over: &mut Tally) -> Result<Vec<PathBuf>, DataError> {
    let mut names = visible(folder, Path::new(""), passed_over)?;
    names.retain(|name| folder.join(name).is_dir());
    Ok(names)
}

fn list(
    root: &Path,
    folder: &Path,
    depth: usize,
    images: &mut Vec<Listed>,
    passed_over: &mut Tally,
) -> Result<(), DataError> {
    if depth > 32 {
        let what = "folders are nested too deeply; does a link lead back up?";
        return Err(DataError::malformed(&root.join(folder), Place::Whole, what));
    }
    let names = visible(root, folder, passed_over)?;
    for name in &names {
        let path = folder.join(name);
        if root.join(&path).is_dir() {
            list(root, &path, depth + 1, images, passed_over)?;
        } else if is_image_name(name) {
            let has_text = names.binary_search(&name.with_extension("txt")).is_ok();
            images.push(Listed { path, has_text });
        } else if is_unread(name) {
            let first = || root.join(&path).display().to_string();
            passed_over.add("an image of a format that is not read", first);
        }
    }
    Ok(())
}

/// The names in a folder, sorted, without hidden ones. Of these, folders and images are counted.
fn visible(root: &Path, folder: &Path, passed_over: &mut Tally) -> Result<Vec<PathBuf>, DataError> {
    let here = root.join(folder);
    let io = |error| DataError::io(&here, error);
    let (mut names, mut hidden) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(&here).map_err(io)? {
        let name = PathBuf::from(entry.map_err(io)?.file_name());
        match name.to_string_lossy().starts_with('.') {
            true => hidden.push(name),
            false => names.push(name),
        }
    }
    names.sort();
    hidden.sort();
    for name in hidden {
        let path = here.join(&name);
        let first = || path.display().to_string();
        if path.is_dir() {
            passed_over.add("a hidden folder", first);
        } else if is_image_name(&name) {
            passed_over.add("a hidden image", first);
        }
    }
    Ok(names)
}

fn is_unread(name: &Path) -> bool {
    let extension = name.extension().unwrap_or_default().to_string_lossy();
    UNREAD
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_among_the_images_is_counted_and_named() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            "b/1.jpg",
            "b/1.txt",
            "a.PNG",
            "._a.jpg",
            "b/._1.jpg",
            "b/2.TIFF",
            "c.avif",
            ".ipynb_checkpoints/x.jpg",
            ".DS_Store",
            "notes.txt",
        ];
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut passed_over = Tally::default();
        let images = images_below(root.path(), &mut passed_over).unwrap();
        let told: Vec<_> = images
            .iter()
            .map(|l| (l.path.to_str().unwrap(), l.has_text))
            .collect();
        assert_eq!(told, [("a.PNG", false), ("b/1.jpg", true)]);
        let dropped: Vec<_> = passed_over
            .dropped()
            .iter()
            .map(|d| (d.count, d.reason.clone()))
            .collect();
        let expected = [
            (2, "a hidden image"),
            (1, "a hidden folder"),
            (2, "an image of a format that is not read"),
        ];
        assert_eq!(dropped, expected.map(|(n, what)| (n, what.to_string())));
        assert!(passed_over.dropped()[2].first.ends_with("b/2.TIFF"));
        let folders = subfolders(root.path(), &mut Tally::default()).unwrap();
        assert_eq!(folders, [PathBuf::from("b")]);
    }
}
