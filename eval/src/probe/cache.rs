//! Embeddings of a split, computed once and kept on disk.

use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::datasets::{ClassificationData, Labels};
use crate::encoder::DualEncoder;
use crate::error::{EvalError, Result};
use crate::extract::{BadImage, Extraction, image_features};
use crate::features::{Features, IMAGE_FEATURES, save};
use crate::files;

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

/// A folder of embeddings. The key of an entry covers all that they depend on: the model's weights, the preprocessing,
/// and names and sizes of the images.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    /// The folder.
    pub dir: PathBuf,
    /// What identifies the weights: a digest of the file, or name and seed of a random model.
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
        let mut hash = Sha256::new();
        let preprocess = serde_json::to_string(encoder.preprocess().config())
            .map_err(|e| EvalError::format(&self.dir, e.to_string()))?;
        for part in [&self.model, &preprocess, &encoder.embed_dim().to_string()] {
            hash.update(part);
            hash.update([0]);
        }
        for image in &data.images {
            hash.update(image.name());
            hash.update(image.len().to_le_bytes());
        }
        let digest: String = hash
            .finalize()
            .iter()
            .take(12)
            .map(|b| format!("{b:02x}"))
            .collect();
        Ok(format!("{}_{digest}", data.name.replace(['/', '\\'], "_")))
    }
}

/// A digest of a checkpoint's content, for [`FeatureCache::model`]: of a file, or of all files of a model directory.
pub fn weights_digest(path: &Path) -> Result<String> {
    let files = if path.is_dir() {
        files::sorted_entries(path)?
    } else {
        vec![path.to_owned()]
    };
    let mut hash = Sha256::new();
    for path in files.iter().filter(|path| path.is_file()) {
        let mut file = std::fs::File::open(path).map_err(EvalError::io(path))?;
        std::io::copy(&mut file, &mut hash).map_err(EvalError::io(path))?;
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}
