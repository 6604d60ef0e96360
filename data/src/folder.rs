//! A folder of images with one sub-folder per class, as torchvision's `ImageFolder` reads it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{DataError, Place};
use crate::sample::{Captions, Sample};
use crate::source::{Source, out_of_range};

/// Extensions taken for images, in lower case: all that can be decoded.
pub const IMAGE_EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "jpe", "png", "webp", "bmp", "gif"];

/// True if the file name ends like an image's.
pub fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    IMAGE_EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// `root/CLASS/**/IMAGE`: classes and images sorted by name, the label being the place of the class.
/// There are no captions.
#[derive(Debug)]
pub struct FolderSource {
    root: PathBuf,
    class_names: Vec<String>,
    /// Paths below the root, sorted, with their labels.
    images: Vec<(PathBuf, u32)>,
}

impl FolderSource {
    /// Lists the images below `root`. Links are followed; files that are no images and hidden files
    /// are passed over.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, DataError> {
        let root = root.into();
        let (mut class_names, mut images) = (Vec::new(), Vec::new());
        for class in sorted(&root)?
            .into_iter()
            .filter(|class| root.join(class).is_dir())
        {
            let label = class_names.len() as u32;
            class_names.push(class.to_string_lossy().into_owned());
            list(&root, &class, label, 0, &mut images)?;
        }
        if images.is_empty() {
            let what = format!(
                "no images in sub-folders; one folder per class with {IMAGE_EXTENSIONS:?} is expected"
            );
            return Err(DataError::malformed(&root, Place::Whole, what));
        }
        Ok(Self {
            root,
            class_names,
            images,
        })
    }

    /// Names of the classes' folders, by label.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }
}

impl Source for FolderSource {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (name, label) = self
            .images
            .get(index)
            .ok_or_else(|| out_of_range(self, index))?;
        let path = self.root.join(name);
        let image = fs::read(&path).map_err(|error| DataError::io(path, error))?;
        let key = name.to_string_lossy().into_owned();
        Ok(Sample {
            key,
            image,
            captions: Captions::default(),
            label: Some(*label as usize),
            embedding: None,
        })
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }
}

fn list(
    root: &Path,
    folder: &Path,
    label: u32,
    depth: usize,
    images: &mut Vec<(PathBuf, u32)>,
) -> Result<(), DataError> {
    let here = root.join(folder);
    if depth > 32 {
        let what = "folders are nested too deeply; does a link lead back up?";
        return Err(DataError::malformed(&here, Place::Whole, what));
    }
    for name in sorted(&here)? {
        let path = folder.join(&name);
        if root.join(&path).is_dir() {
            list(root, &path, label, depth + 1, images)?;
        } else if is_image_name(&name) {
            images.push((path, label));
        }
    }
    Ok(())
}

/// The names in a folder, sorted, without hidden ones.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |error| DataError::io(folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if !name.to_string_lossy().starts_with('.') {
            names.push(PathBuf::from(name));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_images_are_sorted() {
        let root = tempfile::tempdir().unwrap();
        for (i, path) in [
            "dog/b.JPEG",
            "dog/a.png",
            "cat/x/c.jpg",
            "cat/notes.txt",
            "cat/.d.jpg",
            "e.jpg",
        ]
        .iter()
        .enumerate()
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, [i as u8]).unwrap();
        }
        let source = FolderSource::open(root.path()).unwrap();
        assert_eq!(source.class_names(), ["cat", "dog"]);
        let all: Vec<_> = (0..source.len()).map(|i| source.get(i).unwrap()).collect();
        let told: Vec<_> = all
            .iter()
            .map(|s| (s.key.as_str(), s.image[0], s.label))
            .collect();
        assert_eq!(
            told,
            [
                ("cat/x/c.jpg", 2, Some(0)),
                ("dog/a.png", 1, Some(1)),
                ("dog/b.JPEG", 0, Some(1))
            ]
        );
    }

    #[test]
    fn an_empty_or_missing_folder_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(
            FolderSource::open(root.path())
                .unwrap_err()
                .to_string()
                .contains("one folder per class")
        );
        let missing = root.path().join("nowhere");
        assert!(
            FolderSource::open(&missing)
                .unwrap_err()
                .to_string()
                .contains("nowhere")
        );
    }
}
