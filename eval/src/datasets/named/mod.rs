//! Data sets as their authors publish them, by name.
//!
//! Labels are those of torchvision's classes of the same sets, which CLIP_benchmark takes.

mod listed;
mod records;

pub(crate) use records::unpack;

use std::path::{Path, PathBuf};

use crate::datasets::{ClassificationData, Labels, Split};
use crate::error::{EvalError, Result};
use crate::images::ImageRef;

/// A data set that is read as it is published.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// The folder below the root that holds it; the root may also be that folder.
    pub folder: &'static str,
    /// What lies in the folder.
    pub holds: &'static str,
    /// Shell commands by which it is got, from inside the root.
    pub fetch: &'static [&'static str],
    open: fn(&Set) -> Labelled,
    /// Its splits; the first is the one that is scored.
    splits: &'static [&'static str],
    classes: usize,
    /// The file with the class names, for sets whose names are not packaged.
    names: Option<&'static str>,
}

/// Data sets that are read as they are published.
pub const NAMED: [Named; 8] = [
    Named {
        name: "cifar10",
        folder: "cifar-10-batches-bin",
        holds: "test_batch.bin, data_batch_{1..5}.bin, batches.meta.txt (the binary version)",
        fetch: &["curl -L https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz | tar xz"],
        open: records::cifar10,
        splits: &["test", "train"],
        classes: 10,
        names: Some("batches.meta.txt"),
    },
    Named {
        name: "cifar100",
        folder: "cifar-100-binary",
        holds: "test.bin, train.bin, fine_label_names.txt (the binary version)",
        fetch: &["curl -L https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz | tar xz"],
        open: records::cifar100,
        splits: &["test", "train"],
        classes: 100,
        names: Some("fine_label_names.txt"),
    },
    Named {
        name: "stl10",
        folder: "stl10_binary",
        holds: "test_X.bin, test_y.bin, train_X.bin, train_y.bin, class_names.txt",
        fetch: &["curl -L http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz | tar xz"],
        open: records::stl10,
        splits: &["test", "train"],
        classes: 10,
        names: Some("class_names.txt"),
    },
    Named {
        name: "mnist",
        folder: "MNIST/raw",
        holds: "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, and the same of train, as they are or in .gz",
        fetch: &[
            "mkdir -p MNIST/raw",
            "for f in t10k-images-idx3 t10k-labels-idx1 train-images-idx3 train-labels-idx1; do curl -L -o \
             MNIST/raw/$f-ubyte.gz https://ossci-datasets.s3.amazonaws.com/mnist/$f-ubyte.gz; done",
        ],
        open: records::mnist,
        splits: &["test", "train"],
        classes: 10,
        names: None,
    },
    Named {
        name: "food101",
        folder: "food-101",
        holds: "images/CLASS/*.jpg, meta/classes.txt, meta/test.txt, meta/train.txt",
        fetch: &["curl -L http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz | tar xz"],
        open: listed::food101,
        splits: &["test", "train"],
        classes: 101,
        names: Some("meta/classes.txt"),
    },
    Named {
        name: "flowers",
        folder: "flowers-102",
        holds: "jpg/image_*.jpg, imagelabels.mat, setid.mat",
        fetch: &[
            "mkdir -p flowers-102",
            "curl -L https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz | tar xz -C flowers-102",
            "for f in imagelabels setid; do curl -L -o flowers-102/$f.mat \
             https://www.robots.ox.ac.uk/~vgg/data/flowers/102/$f.mat; done",
        ],
        open: listed::flowers,
        splits: &["test", "train", "val"],
        classes: 102,
        names: None,
    },
    Named {
        name: "pets",
        folder: "oxford-iiit-pet",
        holds: "images/*.jpg, annotations/test.txt, annotations/trainval.txt",
        fetch: &[
            "mkdir -p oxford-iiit-pet",
            "for f in images annotations; do curl -L https://www.robots.ox.ac.uk/~vgg/data/pets/data/$f.tar.gz | tar xz \
             -C oxford-iiit-pet; done",
        ],
        open: listed::pets,
        splits: &["test", "trainval"],
        classes: 37,
        names: None,
    },
    Named {
        name: "eurosat",
        folder: "eurosat/2750",
        holds: "CLASS/*.jpg of the ten classes, AnnualCrop to SeaLake",
        fetch: &[
            "mkdir -p eurosat",
            "curl -L -o eurosat/EuroSAT.zip https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            "unzip -d eurosat eurosat/EuroSAT.zip",
        ],
        open: listed::eurosat,
        splits: &["all"],
        classes: 10,
        names: None,
    },
];

impl Named {
    /// The data set of this name. Of VTAB's variants, which go by `vtab/NAME`, those whose test images are the same.
    pub fn find(name: &str) -> Option<&'static Self> {
        let short = name.strip_prefix("vtab/");
        let same = |named: &Named| match short {
            // VTAB tests on a part of EuroSAT, which has no split of its own.
            Some(short) => {
                named.name == short && ["cifar10", "cifar100", "flowers", "pets"].contains(&short)
            }
            None => named.name == name,
        };
        NAMED.iter().find(|named| same(named))
    }

    /// Its folder below a root, or the root itself.
    pub fn folder(&self, root: &Path) -> PathBuf {
        let folder = root.join(self.folder);
        match folder.is_dir() {
            true => folder,
            false => root.to_owned(),
        }
    }

    /// Reads images and labels of a split.
    pub(super) fn open(&self, name: &str, root: &Path, split: Split) -> Result<ClassificationData> {
        let usual = self.splits[0];
        let split = match split {
            Split::Named("") | Split::Usual(_) => usual,
            Split::Named(named) => named,
        };
        let Some(split) = self.splits.iter().find(|known| **known == split) else {
            let reason = format!("no split `{split}`; there are {}", self.splits.join(", "));
            return Err(EvalError::dataset(name, reason));
        };
        let set = Set {
            name: self.name,
            root: self.folder(root),
            split,
            classes: self.classes,
        };
        let (images, labels) = (self.open)(&set).map_err(|error| self.explain(error, root))?;
        let mut classes = None;
        if let Some(file) = self.names {
            let names = set.lines(file).map_err(|error| self.explain(error, root))?;
            if names.len() != self.classes {
                let reason = format!("{} class names, expected {}", names.len(), self.classes);
                return Err(EvalError::format(&set.root.join(file), reason));
            }
            classes = Some(
                names
                    .into_iter()
                    .map(|name| self.class_name(name).into())
                    .collect(),
            );
        }
        Ok(ClassificationData {
            classes,
            split: (*split).into(),
            ..ClassificationData::new(name, images, Labels::Single(labels))
        })
    }

    /// CLIP_benchmark puts blanks into the names of Food-101, and leaves those of CIFAR-100 as they are.
    fn class_name(&self, name: String) -> String {
        match self.name {
            "food101" => name.replace('_', " "),
            _ => name,
        }
    }

    /// A file that is not there is one of a data set that is not there.
    fn explain(&self, error: EvalError, root: &Path) -> EvalError {
        match error {
            EvalError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                let reason = format!(
                    "no such file; {} is read from {}, which holds {}; `eval fetch {}` prints how to get it",
                    self.name,
                    root.join(self.folder).display(),
                    self.holds,
                    self.name
                );
                EvalError::format(&path, reason)
            }
            other => other,
        }
    }
}

/// Images and the class of each.
type Labelled = Result<(Vec<ImageRef>, Vec<usize>)>;

/// What a reader needs to know.
struct Set {
    name: &'static str,
    /// The folder that the files lie in.
    root: PathBuf,
    split: &'static str,
    classes: usize,
}

impl Set {
    fn lines(&self, file: &str) -> Result<Vec<String>> {
        let text = crate::files::read_text(&self.root.join(file))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(str::to_owned).collect())
    }

    /// A class from a label that counts from `first`.
    fn class(&self, label: u64, first: u64, file: &Path, place: usize) -> Result<usize> {
        let class = label
            .checked_sub(first)
            .filter(|class| *class < self.classes as u64);
        class.map(|class| class as usize).ok_or_else(|| {
            let reason = format!(
                "label {label} of image {place} is none of {first} to {}; the file is damaged or of another data set",
                first + self.classes as u64 - 1
            );
            EvalError::format(file, reason)
        })
    }
}

#[cfg(test)]
mod tests;
