//! CLIP_benchmark's webdataset layout: `root/SPLIT/{0..n-1}.tar`, `root/SPLIT/nshards.txt`, and beside the splits
//! `classnames.txt`, `zeroshot_classification_templates.txt` and `dataset_type.txt`.
//!
//! Shards are indexed once; images stay where they are and are read from any thread.

use std::path::{Path, PathBuf};

use data::folder::IMAGE_EXTENSIONS;
use data::npy;
use data::webdataset::{BenchmarkLayout, DatasetType, Member, TarSample};

// A circle on purpose: `retrieval` opens every format, and this one builds its data.
use crate::datasets::retrieval::{RetrievalBuilder, RetrievalData};
use crate::datasets::{ClassificationData, Labels, Split, note_empty_classes};
use crate::error::{EvalError, Result};
use crate::images::ImageRef;
use crate::prompts::{ClassName, Templates};

/// What a webdataset turned out to hold.
#[derive(Debug)]
pub enum WebDataset {
    /// Images with one class (`.cls`) or several (`.npy`).
    Classification(ClassificationData),
    /// Images with captions (`.txt`, one per line).
    Retrieval(RetrievalData),
}

/// One sample: the members of a tar file that share a key.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<ImageRef>,
    cls: Option<Vec<u8>>,
    npy: Option<Vec<u8>>,
    txt: Option<Vec<u8>>,
}

/// Opens a webdataset; `dataset_type.txt` decides what it is, classification if absent.
///
/// The split must be there: a webdataset has no other place for its shards.
pub fn webdataset<'a>(name: &str, root: &Path, split: impl Into<Split<'a>>) -> Result<WebDataset> {
    let split = split.into();
    if root.is_dir() && !root.join(split.name()).is_dir() {
        return Err(split.absent(name, root)?);
    }
    let layout = BenchmarkLayout::read(root, split.name())?;
    let samples = read_samples(name, &layout.shards.paths()?)?;
    match layout.dataset_type {
        DatasetType::Retrieval => {
            let data = captions(name, samples)?;
            let split = split.name().to_owned();
            Ok(WebDataset::Retrieval(RetrievalData { split, ..data }))
        }
        DatasetType::Multilabel => {
            let data = multi_label(name, layout, samples)?;
            Ok(WebDataset::Classification(of_split(data, split)))
        }
        DatasetType::Classification => {
            let data = single_label(name, layout, samples)?;
            Ok(WebDataset::Classification(of_split(data, split)))
        }
    }
}

fn of_split(data: ClassificationData, split: Split) -> ClassificationData {
    ClassificationData {
        split: split.name().into(),
        ..data
    }
}

/// Class names and templates that lie beside the shards.
fn prompts(layout: BenchmarkLayout) -> (Option<Vec<ClassName>>, Option<Templates>) {
    let classes = layout
        .class_names
        .map(|names| names.into_iter().map(ClassName::from).collect());
    (classes, layout.templates.map(Templates::Shared))
}

fn single_label(
    name: &str,
    layout: BenchmarkLayout,
    samples: Vec<Sample>,
) -> Result<ClassificationData> {
    let (classes, templates): (Option<Vec<ClassName>>, _) = prompts(layout);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for sample in samples {
        let text = part(name, &sample.key, "cls", sample.cls)?;
        let label = String::from_utf8_lossy(&text)
            .trim()
            .parse::<usize>()
            .map_err(|_| {
                EvalError::dataset(name, format!("{}.cls is not a class number", sample.key))
            })?;
        if let Some(classes) = &classes
            && label >= classes.len()
        {
            let reason = format!(
                "{} has class {label}, classnames.txt has {}",
                sample.key,
                classes.len()
            );
            return Err(EvalError::dataset(name, reason));
        }
        images.push(part(name, &sample.key, "jpg, png or webp", sample.image)?);
        labels.push(label);
    }
    let notes = classes.as_ref().map_or_else(Vec::new, |classes| {
        note_empty_classes(classes.len(), &labels, |class| {
            classes[class].main().to_owned()
        })
    });
    Ok(ClassificationData {
        classes,
        templates,
        notes,
        ..ClassificationData::new(name, images, Labels::Single(labels))
    })
}

fn multi_label(
    name: &str,
    layout: BenchmarkLayout,
    samples: Vec<Sample>,
) -> Result<ClassificationData> {
    let (class_names, templates) = prompts(layout);
    let (mut images, mut relevant, mut classes) = (Vec::new(), Vec::new(), None);
    for sample in samples {
        let npy = part(name, &sample.key, "npy", sample.npy)?;
        let row = npy::parse(&npy)
            .map_err(|what| EvalError::dataset(name, format!("{}.npy: {what}", sample.key)))?;
        let [len] = *row.shape.as_slice() else {
            let reason = format!("{}.npy is no flat array of numbers", sample.key);
            return Err(EvalError::dataset(name, reason));
        };
        let before = *classes.get_or_insert(len);
        if before != len {
            let reason = format!(
                "{}.npy has {len} classes, those before {before}",
                sample.key
            );
            return Err(EvalError::dataset(name, reason));
        }
        images.push(part(name, &sample.key, "jpg, png or webp", sample.image)?);
        relevant.extend(row.values.iter().map(|&value| value != 0.0));
    }
    let labels = Labels::Multi {
        classes: classes.unwrap_or(0),
        relevant,
    };
    if let Some(names) = &class_names
        && names.len() != labels.classes()
    {
        let reason = format!(
            "classnames.txt has {} names for {} classes",
            names.len(),
            labels.classes()
        );
        return Err(EvalError::dataset(name, reason));
    }
    Ok(ClassificationData {
        classes: class_names,
        templates,
        ..ClassificationData::new(name, images, labels)
    })
}

fn captions(name: &str, samples: Vec<Sample>) -> Result<RetrievalData> {
    let mut builder = RetrievalBuilder::new(name);
    for sample in samples {
        let image = part(name, &sample.key, "jpg, png or webp", sample.image)?;
        let text = part(name, &sample.key, "txt", sample.txt)?;
        let text = String::from_utf8(text)
            .map_err(|_| EvalError::dataset(name, format!("{}.txt is not UTF-8", sample.key)))?;
        // Python's `str.splitlines`, which CLIP_benchmark uses, splits at `\r` too.
        let captions = text.split(['\n', '\r']).filter(|c| !c.is_empty());
        builder.image_with_captions(
            &sample.key,
            image,
            captions.map(|c| c.replace("\\n", "\n")),
        )?;
    }
    builder.build()
}

fn part<T>(name: &str, key: &str, what: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| EvalError::dataset(name, format!("sample {key} has no {what}")))
}

fn read_samples(name: &str, shards: &[PathBuf]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for shard in shards {
        index_shard(shard, &mut samples)?;
    }
    if samples.is_empty() {
        return Err(EvalError::dataset(name, "its shards hold no sample"));
    }
    Ok(samples)
}

/// Reads labels and captions of a shard and notes where its images lie.
fn index_shard(path: &Path, samples: &mut Vec<Sample>) -> Result<()> {
    for TarSample { key, parts } in data::webdataset::samples(path)? {
        let mut sample = Sample {
            key,
            ..Sample::default()
        };
        for (extension, Member { name, offset, size }) in parts {
            let member = ImageRef::Member {
                shard: path.into(),
                member: name,
                offset,
                len: size,
            };
            match extension.as_str() {
                "cls" => sample.cls = Some(member.read()?),
                "npy" => sample.npy = Some(member.read()?),
                "txt" => sample.txt = Some(member.read()?),
                other if IMAGE_EXTENSIONS.contains(&other) => sample.image = Some(member),
                _ => {}
            }
        }
        samples.push(sample);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
