//! ImageNet-1k and the sets that share its classes.
//!
//! A label is the rank of the WordNet id among the sorted ids of the set's classes, whichever of them have images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use data::Tally;
use data::folder::images_below;

use crate::datasets::folder::{labelled_images, subdirectories};
use crate::datasets::matlab::synset_ids;
use crate::datasets::{ClassificationData, Labels, Split, note_empty_classes, passed_over};
use crate::error::{EvalError, Result};
use crate::files::read_text;
use crate::images::ImageRef;
use crate::prompts::imagenet_wnids;

const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";

/// ImageNet-1k, Sketch, A, R and O: `root/[SPLIT/]WNID/*`, or for ImageNet-1k a flat folder of validation images with
/// the devkit's ground truth.
///
/// A, R and O have 200 classes and are scored among those. Class names are found by the data set's name.
pub fn imagenet<'a>(
    name: &str,
    root: &Path,
    split: impl Into<Split<'a>>,
) -> Result<ClassificationData> {
    let subset = matches!(name, "imagenet-a" | "imagenet-r" | "imagenet-o");
    let all = imagenet_wnids("imagenet1k").unwrap_or_default();
    let wnids = if subset {
        imagenet_wnids(name).unwrap_or_default()
    } else {
        all.clone()
    };
    let (dir, split) = split.into().folder(name, root)?;
    let mut passed = Tally::default();
    let folders = subdirectories(&dir, &mut passed)?;
    let is_flat = folders.is_empty() || !folders.iter().any(|(folder, _)| all.contains(folder));
    let (images, labels) = if is_flat && !subset {
        flat_validation(name, root, &dir, &wnids, &mut passed)?
    } else {
        let labelled = folders
            .into_iter()
            .map(|(folder, path)| match wnids.binary_search(&folder) {
                Ok(label) => Ok((label, path)),
                Err(_) => Err(EvalError::dataset(
                    name,
                    format!(
                        "{} is not one of its {} WordNet ids",
                        path.display(),
                        wnids.len()
                    ),
                )),
            })
            .collect::<Result<Vec<_>>>()?;
        labelled_images(name, &dir, labelled.into_iter(), &mut passed)?
    };
    let mut notes = note_empty_classes(wnids.len(), &labels, |class| wnids[class].clone());
    notes.extend(passed_over(&passed));
    let name = if name == "imagenet" {
        "imagenet1k"
    } else {
        name
    };
    Ok(ClassificationData {
        notes,
        split,
        ..ClassificationData::new(name, images, Labels::Single(labels))
    })
}

/// ImageNetV2: folders are label numbers, which must not be sorted as text.
pub fn imagenet_v2(root: &Path) -> Result<ClassificationData> {
    let name = "imagenetv2";
    let is_number = |(folder, _): &(String, PathBuf)| folder.parse::<usize>().is_ok();
    let mut passed = Tally::default();
    let mut folders = subdirectories(root, &mut passed)?;
    if let [(_, only)] = folders.as_slice()
        && !is_number(&folders[0])
    {
        folders = subdirectories(&only.clone(), &mut passed)?; // `imagenetv2-matched-frequency-format-val/`
    }
    let labelled = folders
        .into_iter()
        .map(|(folder, path)| match folder.parse() {
            Ok(label) if label < 1000 => Ok((label, path)),
            _ => {
                let reason = format!("{} is not a label from 0 to 999", path.display());
                Err(EvalError::dataset(name, reason))
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let (images, labels) = labelled_images(name, root, labelled.into_iter(), &mut passed)?;
    let mut notes = note_empty_classes(1000, &labels, |class| class.to_string());
    notes.extend(passed_over(&passed));
    Ok(ClassificationData {
        notes,
        ..ClassificationData::new(name, images, Labels::Single(labels))
    })
}

/// 50,000 images in one folder. Their labels are numbers of the devkit, which are no ranks of WordNet ids: `meta.mat`
/// translates.
fn flat_validation(
    name: &str,
    root: &Path,
    dir: &Path,
    wnids: &[String],
    passed: &mut Tally,
) -> Result<(Vec<ImageRef>, Vec<usize>)> {
    let find = |file: &str| {
        let places = ["", "data", "ILSVRC2012_devkit_t12/data"];
        places
            .iter()
            .map(|place| root.join(place).join(file))
            .find(|path| path.exists())
    };
    let listed = images_below(dir, passed)?.into_iter();
    let images: Vec<PathBuf> = listed
        .filter(|image| image.path.components().count() == 1)
        .map(|image| dir.join(image.path))
        .collect();
    let (Some(truth), Some(meta)) = (find(GROUND_TRUTH), find("meta.mat")) else {
        let reason = format!(
            "{} has neither WordNet-id folders nor, for a flat folder of images, {GROUND_TRUTH} and meta.mat of the \
             devkit beside it",
            dir.display()
        );
        return Err(EvalError::dataset(name, reason));
    };
    let ids = read_text(&truth)?;
    let ids: Vec<u32> = ids
        .split_whitespace()
        .map(|id| {
            id.parse()
                .map_err(|_| EvalError::format(&truth, format!("`{id}` is no class number")))
        })
        .collect::<Result<_>>()?;
    if ids.len() != images.len() {
        let reason = format!(
            "{} labels for the {} images of {}",
            ids.len(),
            images.len(),
            dir.display()
        );
        return Err(EvalError::format(&truth, reason));
    }
    let wnid_of: HashMap<u32, String> = synset_ids(&meta)?.into_iter().collect();
    let label = |id: &u32| {
        let wnid = wnid_of
            .get(id)
            .and_then(|wnid| wnids.binary_search(wnid).ok());
        wnid.ok_or_else(|| {
            EvalError::format(&truth, format!("class {id} is not in {}", meta.display()))
        })
    };
    let labels = ids.iter().map(label).collect::<Result<_>>()?;
    Ok((images.into_iter().map(ImageRef::File).collect(), labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn touch(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
    }

    #[test]
    fn a_label_is_the_rank_among_all_wnids_even_if_few_have_images() {
        let dir = tempfile::tempdir().unwrap();
        touch(
            dir.path(),
            &["val/n01443537/a.JPEG", "val/n15075141/b.JPEG"],
        );
        let data = imagenet("imagenet", dir.path(), "val").unwrap();
        assert_eq!(data.labels, Labels::Single(vec![1, 999]));
        assert_eq!(data.name, "imagenet1k");
        assert!(data.notes[0].contains("998 of 1000"));
    }

    #[test]
    fn a_subset_is_scored_among_its_own_two_hundred() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["n01498041/a.jpg", "n12267677/b.jpg"]);
        let data = imagenet("imagenet-a", dir.path(), "test").unwrap();
        assert_eq!(data.labels, Labels::Single(vec![0, 199]));
        touch(dir.path(), &["n01440764/tench.jpg"]);
        let error = imagenet("imagenet-a", dir.path(), "test")
            .unwrap_err()
            .to_string();
        assert!(error.contains("n01440764"), "{error}");
    }

    #[test]
    fn a_split_that_is_not_there_is_an_error_and_v2_has_none_to_train_on() {
        let dir = tempfile::tempdir().unwrap();
        touch(
            dir.path(),
            &["val/n01443537/a.JPEG", "val/n01443537/._a.JPEG"],
        );
        let data = imagenet("imagenet", dir.path(), Split::Named("val")).unwrap();
        assert_eq!((data.images.len(), data.split.as_str()), (1, "val"));
        assert!(data.notes[1].contains("hidden image"), "{:?}", data.notes);
        let said = imagenet("imagenet", dir.path(), Split::Named("train"));
        let said = said.unwrap_err().to_string();
        assert!(
            said.contains("no split `train`") && said.contains(": val"),
            "{said}"
        );
        let said = crate::datasets::classification("imagenetv2", dir.path(), Split::Named("train"));
        assert!(said.unwrap_err().to_string().contains("one test set"));
    }

    #[test]
    fn folders_of_v2_are_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let inner = "imagenetv2-matched-frequency-format-val";
        touch(
            dir.path(),
            &[&format!("{inner}/10/a.jpeg"), &format!("{inner}/9/b.jpeg")],
        );
        let data = imagenet_v2(dir.path()).unwrap();
        assert_eq!(data.labels, Labels::Single(vec![10, 9]));
    }

    #[test]
    fn a_flat_folder_needs_the_devkit() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["val/ILSVRC2012_val_00000001.JPEG"]);
        let error = imagenet("imagenet1k", dir.path(), "val")
            .unwrap_err()
            .to_string();
        assert!(error.contains(GROUND_TRUTH), "{error}");
    }
}
