//! Data sets on disk, in the layouts that people already have.

pub mod caption;
pub mod choice;
pub mod collection;
mod folder;
mod imagenet;
mod matlab;
mod named;
mod objectnet;
pub mod retrieval;
mod split;
mod webdataset;

use std::collections::BTreeSet;
use std::path::Path;

pub use folder::image_folder;
pub use imagenet::{imagenet, imagenet_v2};
pub(crate) use named::unpack;
pub use named::{NAMED, Named};
pub use objectnet::objectnet;
pub use split::Split;
pub use webdataset::{WebDataset, webdataset};

use data::Tally;

use crate::error::{EvalError, Result};
use crate::images::ImageRef;
use crate::prompts::{ClassName, Templates};

/// Labelled images.
#[derive(Clone, Debug)]
pub struct ClassificationData {
    /// Name under which prompts are looked up and results are filed.
    pub name: String,
    /// The images.
    pub images: Vec<ImageRef>,
    /// Their labels, in the same order.
    pub labels: Labels,
    /// The data set's own class names.
    pub classes: Option<Vec<ClassName>>,
    /// The data set's own templates.
    pub templates: Option<Templates>,
    /// What the reader should know: classes without images and the like.
    pub notes: Vec<String>,
    /// The split that was found; empty where the root itself was read.
    pub split: String,
    /// Number of the data set's classes where images are to be chosen among some of them only, see
    /// [`keep_present_classes`](Self::keep_present_classes). Scores are not those of the data set then.
    pub all_classes: Option<usize>,
}

/// What is to be found in each image.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// One class per image.
    Single(Vec<usize>),
    /// Any number of classes per image.
    Multi {
        /// Number of classes.
        classes: usize,
        /// Row-major `[images, classes]`.
        relevant: Vec<bool>,
    },
}

impl Labels {
    /// Number of labelled images.
    pub fn len(&self) -> usize {
        match self {
            Self::Single(labels) => labels.len(),
            Self::Multi { classes, relevant } => relevant.len() / (*classes).max(1),
        }
    }

    /// True if nothing is labelled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of some images.
    ///
    /// # Panics
    ///
    /// Panics if an index is out of range.
    pub fn select(&self, images: &[usize]) -> Self {
        match self {
            Self::Single(labels) => Self::Single(images.iter().map(|&i| labels[i]).collect()),
            Self::Multi { classes, relevant } => {
                let rows = images
                    .iter()
                    .map(|i| &relevant[i * classes..(i + 1) * classes]);
                Self::Multi {
                    classes: *classes,
                    relevant: rows.flatten().copied().collect(),
                }
            }
        }
    }

    /// One more than the highest label in use, or the number of columns.
    pub fn classes(&self) -> usize {
        match self {
            Self::Single(labels) => labels.iter().max().map_or(0, |max| max.saturating_add(1)),
            Self::Multi { classes, .. } => *classes,
        }
    }
}

impl ClassificationData {
    /// Images and labels, without anything else.
    pub fn new(name: impl Into<String>, images: Vec<ImageRef>, labels: Labels) -> Self {
        Self {
            name: name.into(),
            images,
            labels,
            classes: None,
            templates: None,
            notes: Vec::new(),
            split: String::new(),
            all_classes: None,
        }
    }

    /// Drops the classes without an image from the labels and returns the names of the others: a part of a data set is
    /// then an easier task of its own. Of several labels per image, all classes stay.
    ///
    /// Fails if a label has no name.
    pub fn keep_present_classes(&mut self, names: &[ClassName]) -> Result<Vec<ClassName>> {
        let Labels::Single(labels) = &mut self.labels else {
            return Ok(names.to_vec());
        };
        let present: BTreeSet<usize> = labels.iter().copied().collect();
        if present.last().is_some_and(|&last| last >= names.len()) {
            return Err(EvalError::too_few_names(
                &self.name,
                self.labels.classes(),
                names.len(),
            ));
        }
        let present: Vec<usize> = present.into_iter().collect();
        for label in labels {
            *label = present.partition_point(|class| class < label);
        }
        let note = format!(
            "chosen among the {} of {} classes that have an image",
            present.len(),
            names.len()
        );
        // In the place of the note that some classes are empty.
        self.notes.retain(|note| !note.contains(NO_IMAGE));
        self.notes.insert(0, note);
        self.all_classes = Some(names.len());
        Ok(present.iter().map(|&class| names[class].clone()).collect())
    }
}

/// Names that [`classification`] knows.
pub const CLASSIFICATION: [&str; 10] = [
    "imagenet",
    "imagenet1k",
    "imagenetv2",
    "imagenet_sketch",
    "imagenet-a",
    "imagenet-r",
    "imagenet-o",
    "objectnet",
    "folder",
    "wds",
];

/// Opens a classification data set by its name; `wds/NAME` and `wds` are webdatasets, `folder/NAME` and `folder` are
/// image folders. A plain name as `split` means [`Split::Usual`].
pub fn classification<'a>(
    name: &str,
    root: &Path,
    split: impl Into<Split<'a>>,
) -> Result<ClassificationData> {
    let split = split.into();
    if let Some(named) = Named::find(name) {
        return named.open(name, root, split);
    }
    let (kind, _) = name.split_once('/').unwrap_or((name, ""));
    match kind {
        "imagenet"
        | "imagenet1k"
        | "imagenet1k-unverified"
        | "imagenet_sketch"
        | "imagenet-a"
        | "imagenet-r"
        | "imagenet-o" => imagenet(name, root, split),
        "imagenetv2" => split.is_the_only(name).and_then(|()| imagenet_v2(root)),
        "objectnet" => split.is_the_only(name).and_then(|()| objectnet(root)),
        "folder" => image_folder(name, root, split),
        "wds" => match webdataset(name, root, split)? {
            WebDataset::Classification(data) => Ok(data),
            WebDataset::Retrieval(_) => {
                Err(EvalError::dataset(name, "holds captions; use `retrieval`"))
            }
        },
        _ => Err(EvalError::Option {
            option: "dataset",
            reason: format!(
                "`{name}` is unknown; there are {}, {}, wds/NAME. Other data sets that CLIP_benchmark downloads by name \
                 (vtab/...) are read as `wds/{name}` from their webdataset, or as `folder/{name}` from class folders",
                CLASSIFICATION.join(", "),
                NAMED.map(|named| named.name).join(", ")
            ),
        }),
    }
}

/// Notes about files that a walk over folders passed over.
fn passed_over(passed: &Tally) -> impl Iterator<Item = String> {
    passed
        .dropped()
        .into_iter()
        .map(|what| format!("passed over: {what}"))
}

/// How the note about empty classes is known.
const NO_IMAGE: &str = "classes have no image and";

/// A sentence about classes that have no image, if there are any.
fn note_empty_classes(
    classes: usize,
    labels: &[usize],
    name: impl Fn(usize) -> String,
) -> Vec<String> {
    let mut seen = vec![false; classes];
    labels.iter().for_each(|&label| seen[label] = true);
    let empty: Vec<usize> = (0..classes).filter(|&c| !seen[c]).collect();
    let Some(&first) = empty.first() else {
        return Vec::new();
    };
    vec![format!(
        "{} of {classes} {NO_IMAGE} do not enter the mean per-class recall; first: {}",
        empty.len(),
        name(first)
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_classes_keep_their_names_and_order() {
        let mut data = ClassificationData::new("x", vec![], Labels::Single(vec![7, 2, 7, 9]));
        data.notes = note_empty_classes(10, &[7, 2, 7, 9], |class| class.to_string());
        data.notes.push("passed over: 1 × a hidden image".into());
        let names: Vec<ClassName> = (0..10).map(|c| format!("class {c}").into()).collect();
        let too_few = data.clone().keep_present_classes(&names[..9]);
        let message = too_few.unwrap_err().to_string();
        assert!(message.contains("10 classes, 9 class names"), "{message}");
        let kept = data.keep_present_classes(&names).unwrap();
        let kept: Vec<_> = kept.iter().map(ClassName::main).collect();
        assert_eq!(kept, ["class 2", "class 7", "class 9"]);
        assert_eq!(data.labels, Labels::Single(vec![1, 0, 1, 2]));
        assert!(data.notes[0].contains("3 of 10"), "{:?}", data.notes);
        assert!(data.notes[1].contains("hidden"), "{:?}", data.notes);
        assert_eq!((data.notes.len(), data.all_classes), (2, Some(10)));
    }
}
