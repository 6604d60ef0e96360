//! Embeddings of a split, computed once and kept on disk.

use std::collections::HashSet;
use std::path::PathBuf;

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::datasets::{ClassificationData, Labels};
use crate::encoder::DualEncoder;
use crate::error::{EvalError, Result};
use crate::extract::{BadImage, Extraction, image_features};
use crate::features::{Features, IMAGE_FEATURES, save};
use crate::files;
use crate::identity::Parts;

/// Embeddings with their classes.
#[derive(Debug)]
pub struct Labelled {
    /// One row per image.
    pub features: Features,
    /// Their classes.
    pub labels: Vec<usize>,
}

impl Clone for Labelled {
    fn clone(&self) -> Self {
        self.select(&(0..self.labels.len()).collect::<Vec<_>>())
    }
}

impl Labelled {
    /// Some of the images in the given order.
    ///
    /// # Panics
    ///
    /// Panics if an index is out of range.
    pub fn select(&self, images: &[usize]) -> Self {
        let labels = images.iter().map(|&i| self.labels[i]).collect();
        Self {
            features: self.features.select(images),
            labels,
        }
    }

    /// These images and the others.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut values = self.features.to_vec();
        values.extend(other.features.to_vec());
        let features =
            Features::new(values, self.features.dim()).expect("both have the same dimension");
        Self {
            features,
            labels: [self.labels.as_slice(), &other.labels].concat(),
        }
    }
}

/// A folder of embeddings. The key of an entry covers all that they depend on: the model, the preprocessing, the version
/// of this crate, and names, sizes and times of change of the images.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    /// The folder.
    pub dir: PathBuf,
    /// What identifies the model: its [`identity`](crate::identity::identity) and the precision of its towers.
    pub model: String,
}

/// Written beside the embeddings.
#[derive(Serialize, Deserialize)]
struct Kept {
    kept: Vec<usize>,
    bad: Vec<BadImage>,
}

impl FeatureCache {
    /// The embeddings of a single-label data set: from the folder if they are there, else computed and stored.
    pub fn features<B: Backend, E: DualEncoder<B>>(
        &self,
        encoder: &E,
        data: &ClassificationData,
        options: &Extraction,
        device: &B::Device,
    ) -> Result<(Labelled, Vec<BadImage>)> {
        let Labels::Single(labels) = &data.labels else {
            return Err(EvalError::dataset(
                &data.name,
                "a linear probe needs one class per image",
            ));
        };
        let key = self.key(encoder, data)?;
        let (table, index) = (
            self.dir.join(format!("{key}.safetensors")),
            self.dir.join(format!("{key}.json")),
        );
        if !(table.exists() && index.exists()) {
            let images = image_features(encoder, &data.images, options, device)?;
            save(&table, &[(IMAGE_FEATURES, &images.features)])?;
            let json = serde_json::to_vec(&Kept {
                kept: images.kept,
                bad: images.bad,
            })
            .map_err(|e| EvalError::format(&index, e.to_string()))?;
            files::write(&index, &json)?;
        }
        let features = Features::open(&table, IMAGE_FEATURES)?;
        let Kept { kept, bad } = files::read_json(&index, "the index of a feature cache")?;
        if features.len() != kept.len() || kept.iter().any(|&i| i >= labels.len()) {
            return Err(EvalError::format(
                &table,
                "damaged feature cache; delete the file and run again",
            ));
        }
        if bad.len() > options.max_bad {
            let first = bad.first().map(|b| b.reason.clone()).unwrap_or_default();
            let (bad, total, max_bad) = (bad.len(), data.images.len(), options.max_bad);
            return Err(EvalError::BadImages {
                bad,
                total,
                max_bad,
                first,
            });
        }
        let labels = kept.iter().map(|&i| labels[i]).collect();
        Ok((Labelled { features, labels }, bad))
    }

    fn key<B: Backend, E: DualEncoder<B>>(
        &self,
        encoder: &E,
        data: &ClassificationData,
    ) -> Result<String> {
        let mut hash = Parts(Sha256::new());
        let preprocess = serde_json::to_string(encoder.preprocess().config())
            .map_err(|e| EvalError::format(&self.dir, e.to_string()))?;
        let dim = encoder.embed_dim().to_string();
        for part in [&self.model, &preprocess, &dim, env!("CARGO_PKG_VERSION")] {
            hash.add(part.as_bytes());
        }
        for image in &data.images {
            hash.add(image.absolute().name().as_bytes());
            hash.add(&image.len().to_le_bytes());
            hash.add(&image.changed_ns().to_le_bytes());
        }
        let digest = hash.finish();
        Ok(format!("{}_{digest}", data.name.replace(['/', '\\'], "_")))
    }
}

/// Refuses two parts of a data set that share images: a probe would be scored on what it was trained on.
///
/// # Errors
///
/// Says how many images are in both, and names the first.
pub fn check_disjoint(train: &ClassificationData, test: &ClassificationData) -> Result<()> {
    let known: HashSet<String> = train.images.iter().map(|i| i.absolute().name()).collect();
    let mut shared = test
        .images
        .iter()
        .filter(|i| known.contains(&i.absolute().name()));
    let Some(first) = shared.next() else {
        return Ok(());
    };
    let (count, name) = (
        shared.count() + 1,
        |data: &ClassificationData| match &*data.split {
            "" => "the set itself".to_owned(),
            split => format!("split `{split}`"),
        },
    );
    let reason = format!(
        "{count} of the {} images to be scored ({}) are among those to train on ({}), the first is {}; name two splits \
         that are there",
        test.images.len(),
        name(test),
        name(train),
        first.name()
    );
    Err(EvalError::dataset(&test.name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageRef;

    #[test]
    fn images_that_are_in_both_splits_are_refused_and_named() {
        let data = |split: &str, paths: &[&str]| {
            let images = paths
                .iter()
                .map(|path| ImageRef::File(path.into()))
                .collect();
            let labels = Labels::Single(vec![0; paths.len()]);
            ClassificationData {
                split: split.into(),
                ..ClassificationData::new("x", images, labels)
            }
        };
        let train = data("", &["d/a.jpg", "d/b.jpg"]);
        assert!(check_disjoint(&train, &data("test", &["d/c.jpg"])).is_ok());
        let said = check_disjoint(&train, &data("", &["d/c.jpg", "./d/b.jpg"]));
        let said = said.unwrap_err().to_string();
        assert!(
            said.contains("1 of the 2 images") && said.contains("b.jpg"),
            "{said}"
        );
    }
}
