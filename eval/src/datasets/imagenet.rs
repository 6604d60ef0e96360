//! ImageNet-1k and the sets that share its classes.
//!
//! A label is the rank of the WordNet id among the sorted ids of the set's classes, whichever of them have images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use data::folder::is_image_name;

use crate::datasets::folder::{labelled_images, split_dir, subdirectories};
use crate::datasets::matlab::synset_ids;
use crate::datasets::{ClassificationData, Labels, note_empty_classes};
use crate::error::{EvalError, Result};
use crate::files::{read_text, sorted_entries};
use crate::images::ImageRef;
use crate::prompts::imagenet_wnids;

const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";

/// ImageNet-1k, Sketch, A, R and O: `root/[SPLIT/]WNID/*`, or for ImageNet-1k a flat folder of validation images with
/// the devkit's ground truth.
///
/// A, R and O have 200 classes and are scored among those. Class names are found by the data set's name.
pub fn imagenet(name: &str, root: &Path, split: &str) -> Result<ClassificationData> {
    let subset = matches!(name, "imagenet-a" | "imagenet-r" | "imagenet-o");
    let all = imagenet_wnids("imagenet1k").unwrap_or_default();
    let wnids = if subset {
        imagenet_wnids(name).unwrap_or_default()
    } else {
        all.clone()
    };
    let dir = split_dir(root, split);
    let folders = subdirectories(&dir)?;
    let is_flat = folders.is_empty() || !folders.iter().any(|(folder, _)| all.contains(folder));
    let (images, labels) = if is_flat && !subset {
        flat_validation(name, root, &dir, &wnids)?
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
        labelled_images(name, &dir, labelled.into_iter())?
    };
    let notes = note_empty_classes(wnids.len(), &labels, |class| wnids[class].clone());
    Ok(ClassificationData {
        name: if name == "imagenet" {
            "imagenet1k".into()
        } else {
            name.into()
        },
        images,
        labels: Labels::Single(labels),
        classes: None,
        templates: None,
        notes,
    })
}

/// ImageNetV2: folders are label numbers, which must not be sorted as text.
pub fn imagenet_v2(root: &Path) -> Result<ClassificationData> {
    let name = "imagenetv2";
    let is_number = |(folder, _): &(String, PathBuf)| folder.parse::<usize>().is_ok();
    let mut folders = subdirectories(root)?;
    if let [(_, only)] = folders.as_slice()
        && !is_number(&folders[0])
    {
        folders = subdirectories(&only.clone())?; // `imagenetv2-matched-frequency-format-val/`
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
    let (images, labels) = labelled_images(name, root, labelled.into_iter())?;
    let notes = note_empty_classes(1000, &labels, |class| class.to_string());
    let labels = Labels::Single(labels);
    Ok(ClassificationData {
        name: name.into(),
        images,
        labels,
        classes: None,
        templates: None,
        notes,
    })
}

/// 50,000 images in one folder. Their labels are numbers of the devkit, which are no ranks of WordNet ids: `meta.mat`
/// translates.
fn flat_validation(
    name: &str,
    root: &Path,
    dir: &Path,
    wnids: &[String],
) -> Result<(Vec<ImageRef>, Vec<usize>)> {
    let find = |file: &str| {
        let places = ["", "data", "ILSVRC2012_devkit_t12/data"];
        places
            .iter()
            .map(|place| root.join(place).join(file))
            .find(|path| path.exists())
    };
    let images: Vec<PathBuf> = sorted_entries(dir)?
        .into_iter()
        .filter(|p| is_image_name(p))
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
