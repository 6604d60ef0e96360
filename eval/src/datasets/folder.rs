//! One folder per class.

use std::path::{Path, PathBuf};

use data::Tally;
use data::folder::{images_below, subfolders};

use crate::datasets::{ClassificationData, Labels, Split, note_empty_classes, passed_over};
use crate::error::{EvalError, Result};
use crate::images::ImageRef;
use crate::prompts::ClassName;

/// `root/CLASS/...`, or `root/SPLIT/CLASS/...` if there is such a folder. Classes are the sorted folder names, `_`
/// read as a space; a folder without images is a class all the same. Hidden folders are none.
///
/// # Errors
///
/// Fails without images, with a single class, and where all classes hold nothing but folders: then the root is one
/// level too high, and its "classes" are the splits.
pub fn image_folder<'a>(
    name: &str,
    root: &Path,
    split: impl Into<Split<'a>>,
) -> Result<ClassificationData> {
    let (root, split) = split.into().folder(name, root)?;
    let mut passed = Tally::default();
    let folders = subdirectories(&root, &mut passed)?;
    let fail = |reason: String| Err(EvalError::dataset(name, reason));
    if folders.is_empty() {
        return fail(format!("{} has no class folders", root.display()));
    }
    let labelled = folders
        .iter()
        .enumerate()
        .map(|(label, (_, path))| (label, path.clone()));
    let (images, labels) = labelled_images(name, &root, labelled, &mut passed)?;
    let names = || {
        let names: Vec<_> = folders
            .iter()
            .take(10)
            .map(|(name, _)| name.as_str())
            .collect();
        names.join(", ")
    };
    let is_in_class_folder = |image: &ImageRef| match image {
        ImageRef::File(path) => path.parent().and_then(Path::parent) == Some(&*root),
        _ => false,
    };
    if !images.iter().any(is_in_class_folder) {
        return fail(format!(
            "the folders of {} hold nothing but folders: {}. If they are splits, name one; else give the folder that \
             the classes lie in",
            root.display(),
            names()
        ));
    }
    if folders.len() == 1 {
        return fail(format!(
            "{} has a single class, `{}`, and there is nothing to choose; give the folder that the classes lie in",
            root.display(),
            names()
        ));
    }
    let classes: Vec<ClassName> = folders
        .iter()
        .map(|(n, _)| n.replace('_', " ").into())
        .collect();
    let mut notes = note_empty_classes(classes.len(), &labels, |c| classes[c].main().to_owned());
    notes.extend(passed_over(&passed));
    Ok(ClassificationData {
        classes: Some(classes),
        notes,
        split,
        ..ClassificationData::new(name, images, Labels::Single(labels))
    })
}

/// Name and path of the folders in `dir`, sorted by name, without hidden ones.
pub(super) fn subdirectories(dir: &Path, passed: &mut Tally) -> Result<Vec<(String, PathBuf)>> {
    let names = subfolders(dir, passed)?;
    let named = |name: PathBuf| (name.to_string_lossy().into_owned(), dir.join(&name));
    Ok(names.into_iter().map(named).collect())
}

/// All images below the given folders with the folders' labels.
pub(super) fn labelled_images(
    name: &str,
    root: &Path,
    folders: impl Iterator<Item = (usize, PathBuf)>,
    passed: &mut Tally,
) -> Result<(Vec<ImageRef>, Vec<usize>)> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (label, folder) in folders {
        let listed = images_below(&folder, passed)?;
        images.extend(
            listed
                .iter()
                .map(|image| ImageRef::File(folder.join(&image.path))),
        );
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

    fn touch(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
    }

    fn refusal<'a>(root: &Path, split: impl Into<Split<'a>>) -> String {
        image_folder("folder", root, split).unwrap_err().to_string()
    }

    #[test]
    fn splits_are_not_taken_for_classes() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["val/cat/1.jpg", "val/dog/1.jpg"]);
        // One class "val" with all images would be 100 % right.
        let said = refusal(dir.path(), "test");
        assert!(said.contains("nothing but folders: val"), "{said}");
        let said = refusal(dir.path(), Split::Named("test"));
        assert!(
            said.contains("no split `test`") && said.contains(": val"),
            "{said}"
        );
        touch(dir.path(), &["train/cat/2.jpg", "train/dog/2.jpg"]);
        let said = refusal(dir.path(), "test");
        assert!(said.contains("nothing but folders: train, val"), "{said}");
        let data = image_folder("folder", dir.path(), Split::Named("val")).unwrap();
        assert_eq!((data.split.as_str(), data.images.len()), ("val", 2));
        let data = image_folder("folder", &dir.path().join("val"), "test").unwrap();
        assert_eq!(data.split, "");
    }

    #[test]
    fn a_single_class_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["images/cat/1.jpg", "images/2.jpg"]);
        let said = refusal(dir.path(), "");
        assert!(said.contains("a single class, `images`"), "{said}");
    }

    #[test]
    fn hidden_folders_are_no_classes_and_what_is_passed_over_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "a/1.jpg",
            "a/._1.jpg",
            "b/1.jpg",
            "b/2.TIFF",
            "b/3.avif",
            ".ipynb_checkpoints/x.jpg",
        ];
        touch(dir.path(), &files);
        let data = image_folder("folder", dir.path(), "").unwrap();
        assert_eq!((data.images.len(), data.classes.unwrap().len()), (2, 2));
        let notes = data.notes.join("\n");
        for said in [
            "1 × a hidden folder",
            "1 × a hidden image",
            "2 × an image of a format that is not read",
            "2.TIFF",
        ] {
            assert!(notes.contains(said), "{notes}");
        }
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
