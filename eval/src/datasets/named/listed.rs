//! Folders of image files with lists of what is in them.

use std::path::Path;

use super::{Labelled, Set};
use crate::datasets::image_folder;
use crate::datasets::matlab::numbers;
use crate::datasets::{Labels, Split};
use crate::error::EvalError;
use crate::images::ImageRef;

/// Lines of CLASS/IMAGE; classes in the order of their names.
pub(super) fn food101(set: &Set) -> Labelled {
    let classes = set.lines("meta/classes.txt")?;
    let list = format!("meta/{}.txt", set.split);
    let path = set.root.join(&list);
    let mut labels = Vec::new();
    let mut images = Vec::new();
    for (number, line) in set.lines(&list)?.iter().enumerate() {
        let class = line.split('/').next().unwrap_or_default();
        let class = classes
            .iter()
            .position(|name| name == class)
            .ok_or_else(|| {
                let reason = format!(
                    "line {}: `{line}` is in none of the classes of meta/classes.txt",
                    number + 1
                );
                EvalError::format(&path, reason)
            })?;
        labels.push(class);
        images.push(ImageRef::File(
            set.root.join("images").join(format!("{line}.jpg")),
        ));
    }
    not_empty(&path, images, labels)
}

/// Lines of image, class from 1, species and breed.
pub(super) fn pets(set: &Set) -> Labelled {
    let list = format!("annotations/{}.txt", set.split);
    let path = set.root.join(&list);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let lines = set.lines(&list)?;
    for (number, line) in lines
        .iter()
        .filter(|line| !line.starts_with('#'))
        .enumerate()
    {
        let mut cells = line.split_whitespace();
        let (Some(name), Some(Ok(label))) = (cells.next(), cells.next().map(str::parse)) else {
            let reason = format!(
                "line {}: `{line}`, expected IMAGE CLASS SPECIES BREED",
                number + 1
            );
            return Err(EvalError::format(&path, reason));
        };
        labels.push(set.class(label, 1, &path, number)?);
        images.push(ImageRef::File(
            set.root.join("images").join(format!("{name}.jpg")),
        ));
    }
    not_empty(&path, images, labels)
}

/// Labels of all images in a MATLAB file, and the numbers of a split's images in another, both from 1.
pub(super) fn flowers(set: &Set) -> Labelled {
    let (labels_file, splits_file) = (set.root.join("imagelabels.mat"), set.root.join("setid.mat"));
    let variable = match set.split {
        "test" => "tstid",
        "val" => "valid",
        _ => "trnid",
    };
    let all = numbers(&labels_file, "labels")?;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for number in numbers(&splits_file, variable)? {
        let place = (number as usize)
            .checked_sub(1)
            .filter(|place| *place < all.len());
        let Some(place) = place else {
            let reason = format!(
                "`{variable}` names image {number}, and {} has the labels of {}; get both again",
                labels_file.display(),
                all.len()
            );
            return Err(EvalError::format(&splits_file, reason));
        };
        labels.push(set.class(all[place] as u64, 1, &labels_file, place)?);
        let file = format!("image_{:05}.jpg", place + 1);
        images.push(ImageRef::File(set.root.join("jpg").join(file)));
    }
    not_empty(&splits_file, images, labels)
}

/// EuroSAT's folders, in the order of their labels.
pub(super) const EUROSAT: [&str; 10] = [
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
];

/// A folder for each class; there is no split.
pub(super) fn eurosat(set: &Set) -> Labelled {
    if let Some(absent) = EUROSAT.iter().find(|class| !set.root.join(class).is_dir()) {
        let absent = set.root.join(absent);
        return Err(EvalError::io(&absent)(std::io::ErrorKind::NotFound.into()));
    }
    let data = image_folder("eurosat", &set.root, Split::Named(""))?;
    let own = data.classes.as_ref().map_or(0, Vec::len);
    let Labels::Single(labels) = data.labels else {
        unreachable!("folders give one class per image")
    };
    if own != EUROSAT.len() {
        let reason = format!(
            "{own} class folders, expected {}: {}",
            EUROSAT.len(),
            EUROSAT.join(", ")
        );
        return Err(EvalError::format(&set.root, reason));
    }
    Ok((data.images, labels))
}

fn not_empty(list: &Path, images: Vec<ImageRef>, labels: Vec<usize>) -> Labelled {
    match images.is_empty() {
        true => Err(EvalError::format(
            list,
            "no image in this list; get it again",
        )),
        false => Ok((images, labels)),
    }
}
