//! One folder per class.

use std::path::{Path, PathBuf};

use data::folder::is_image_name;

use crate::datasets::{ClassificationData, Labels, note_empty_classes};
use crate::error::{EvalError, Result};
use crate::files::sorted_entries;
use crate::images::ImageRef;
use crate::prompts::ClassName;

/// `root/CLASS/...`, or `root/SPLIT/CLASS/...` if there is such a folder. Classes are the sorted folder names, `_`
/// read as a space; a folder without images is a class all the same.
pub fn image_folder(name: &str, root: &Path, split: &str) -> Result<ClassificationData> {
    let root = split_dir(root, split);
    let folders = subdirectories(&root)?;
    if folders.is_empty() {
        return Err(EvalError::dataset(
            name,
            format!("{} has no class folders", root.display()),
        ));
    }
    let labelled = folders
        .iter()
        .enumerate()
        .map(|(label, (_, path))| (label, path.clone()));
    let (images, labels) = labelled_images(name, &root, labelled)?;
    let classes: Vec<ClassName> = folders
        .iter()
        .map(|(n, _)| n.replace('_', " ").into())
        .collect();
    let notes = note_empty_classes(classes.len(), &labels, |c| classes[c].main().to_owned());
    let labels = Labels::Single(labels);
    Ok(ClassificationData {
        name: name.into(),
        images,
        labels,
        classes: Some(classes),
        templates: None,
        notes,
    })
}

/// `root/split` if it exists, else `root`.
pub(super) fn split_dir(root: &Path, split: &str) -> PathBuf {
    let with_split = root.join(split);
    if !split.is_empty() && with_split.is_dir() {
        with_split
    } else {
        root.to_owned()
    }
}

/// Name and path of the folders in `dir`, sorted by name.
pub(super) fn subdirectories(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = sorted_entries(dir)?
        .into_iter()
        .filter(|path| path.is_dir());
    Ok(entries
        .map(|path| {
            (
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                path,
            )
        })
        .collect())
}

/// All images below the given folders with the folders' labels.
pub(super) fn labelled_images(
    name: &str,
    root: &Path,
    folders: impl Iterator<Item = (usize, PathBuf)>,
) -> Result<(Vec<ImageRef>, Vec<usize>)> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (label, folder) in folders {
        collect_images(&folder, &mut images)?;
        labels.resize(images.len(), label);
    }
    if images.is_empty() {
        return Err(EvalError::dataset(
            name,
            format!("no image below {}", root.display()),
        ));
    }
    Ok((images, labels))
}

fn collect_images(folder: &Path, images: &mut Vec<ImageRef>) -> Result<()> {
    for path in sorted_entries(folder)? {
        if path.is_dir() {
            collect_images(&path, images)?;
        } else if is_image_name(&path) {
            images.push(ImageRef::File(path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn labels_follow_the_sorted_folders_and_an_empty_class_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["b_c", "a", "empty"] {
            fs::create_dir_all(dir.path().join("test").join(folder)).unwrap();
        }
        for file in ["b_c/2.jpg", "b_c/1.PNG", "a/x.webp", "a/notes.txt"] {
            fs::write(dir.path().join("test").join(file), b"").unwrap();
        }
        let data = image_folder("folder", dir.path(), "test").unwrap();
        assert_eq!(data.labels, Labels::Single(vec![0, 1, 1]));
        assert_eq!(data.classes.unwrap()[1].main(), "b c");
        assert!(data.images[1].name().ends_with("1.PNG"));
        assert!(
            data.notes[0].contains("1 of 3") && data.notes[0].contains("empty"),
            "{:?}",
            data.notes
        );
    }

    #[test]
    fn a_folder_without_classes_or_images_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            image_folder("folder", dir.path(), "")
                .unwrap_err()
                .to_string()
                .contains("no class folders")
        );
        fs::create_dir(dir.path().join("a")).unwrap();
        assert!(
            image_folder("folder", dir.path(), "")
                .unwrap_err()
                .to_string()
                .contains("no image")
        );
        assert!(image_folder("folder", &dir.path().join("none"), "").is_err());
    }
}
