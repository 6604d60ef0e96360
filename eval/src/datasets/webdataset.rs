//! CLIP_benchmark's webdataset layout: `root/SPLIT/{0..n-1}.tar`, `root/SPLIT/nshards.txt`, and beside the splits
//! `classnames.txt`, `zeroshot_classification_templates.txt` and `dataset_type.txt`.
//!
//! Shards are indexed once; images stay where they are and are read from any thread.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use tar::Archive;

use crate::datasets::retrieval::{RetrievalBuilder, RetrievalData};
use crate::datasets::{ClassificationData, Labels, note_empty_classes};
use crate::error::{EvalError, Result};
use crate::files::read_text;
use crate::images::{IMAGE_EXTENSIONS, ImageRef};
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
pub fn webdataset(name: &str, root: &Path, split: &str) -> Result<WebDataset> {
    let kind_path = root.join("dataset_type.txt");
    let kind = if kind_path.exists() {
        read_text(&kind_path)?
    } else {
        "classification".into()
    };
    let samples = read_samples(name, root, split)?;
    match kind.trim().to_lowercase().as_str() {
        "retrieval" => captions(name, samples).map(WebDataset::Retrieval),
        "multilabel" => multi_label(name, root, samples).map(WebDataset::Classification),
        "classification" => single_label(name, root, samples).map(WebDataset::Classification),
        other => {
            let reason = format!("`{other}` is not classification, multilabel or retrieval");
            Err(EvalError::format(&kind_path, reason))
        }
    }
}

fn single_label(name: &str, root: &Path, samples: Vec<Sample>) -> Result<ClassificationData> {
    let (classes, templates) = prompts(root)?;
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
    let labels = Labels::Single(labels);
    Ok(ClassificationData {
        name: name.into(),
        images,
        labels,
        classes,
        templates,
        notes,
    })
}

fn multi_label(name: &str, root: &Path, samples: Vec<Sample>) -> Result<ClassificationData> {
    let (class_names, templates) = prompts(root)?;
    let (mut images, mut relevant, mut classes) = (Vec::new(), Vec::new(), None);
    for sample in samples {
        let npy = part(name, &sample.key, "npy", sample.npy)?;
        let row = parse_npy(&npy).ok_or_else(|| {
            EvalError::dataset(
                name,
                format!("{}.npy is not a flat array of numbers", sample.key),
            )
        })?;
        if *classes.get_or_insert(row.len()) != row.len() {
            let reason = format!(
                "{}.npy has {} classes, others differ",
                sample.key,
                row.len()
            );
            return Err(EvalError::dataset(name, reason));
        }
        images.push(part(name, &sample.key, "jpg, png or webp", sample.image)?);
        relevant.extend(row);
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
        name: name.into(),
        images,
        labels,
        classes: class_names,
        templates,
        notes: Vec::new(),
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

fn prompts(root: &Path) -> Result<(Option<Vec<ClassName>>, Option<Templates>)> {
    let lines = |file: &str| -> Result<Option<Vec<String>>> {
        let path = root.join(file);
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(
            read_text(&path)?
                .lines()
                .map(|line| line.trim().to_owned())
                .collect(),
        ))
    };
    let classes =
        lines("classnames.txt")?.map(|names| names.into_iter().map(ClassName::from).collect());
    let templates = lines("zeroshot_classification_templates.txt")?.map(Templates::Shared);
    Ok((classes, templates))
}

fn read_samples(name: &str, root: &Path, split: &str) -> Result<Vec<Sample>> {
    let dir = root.join(split);
    let count_path = dir.join("nshards.txt");
    let count = read_text(&count_path)?;
    let count: usize = count.trim().parse().map_err(|_| {
        EvalError::format(
            &count_path,
            format!("`{}` is no number of shards", count.trim()),
        )
    })?;
    let mut samples = Vec::new();
    for shard in 0..count {
        index_shard(&dir.join(format!("{shard}.tar")), &mut samples)?;
    }
    if samples.is_empty() {
        return Err(EvalError::dataset(
            name,
            format!("no sample in {}", dir.display()),
        ));
    }
    Ok(samples)
}

/// Reads labels and captions of a shard and notes where its images lie.
fn index_shard(path: &Path, samples: &mut Vec<Sample>) -> Result<()> {
    let file = File::open(path).map_err(EvalError::io(path))?;
    let broken = |e: std::io::Error| EvalError::format(path, format!("damaged tar file: {e}"));
    let mut by_key: HashMap<String, usize> = HashMap::new();
    for entry in Archive::new(file).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let member = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        // A key ends at the first dot of the file name, as in the webdataset library.
        let name_start = member.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = member[name_start..].find('.').map(|dot| name_start + dot) else {
            continue;
        };
        let (key, extension) = (member[..dot].to_owned(), member[dot + 1..].to_lowercase());
        let index = *by_key.entry(key.clone()).or_insert_with(|| {
            samples.push(Sample {
                key,
                ..Sample::default()
            });
            samples.len() - 1
        });
        let sample = &mut samples[index];
        let mut bytes = Vec::new();
        match extension.as_str() {
            "cls" | "npy" | "txt" => {
                entry.read_to_end(&mut bytes).map_err(broken)?;
                match extension.as_str() {
                    "cls" => sample.cls = Some(bytes),
                    "npy" => sample.npy = Some(bytes),
                    _ => sample.txt = Some(bytes),
                }
            }
            other if IMAGE_EXTENSIONS.contains(&other) => {
                let (offset, len) = (entry.raw_file_position(), entry.size());
                sample.image = Some(ImageRef::Member {
                    shard: path.into(),
                    member,
                    offset,
                    len,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// A one-dimensional array in NumPy's format: which values are not zero.
fn parse_npy(bytes: &[u8]) -> Option<Vec<bool>> {
    let body = bytes.strip_prefix(b"\x93NUMPY")?;
    let header_at = if body.first()? == &1 { 4 } else { 6 };
    let header_len = match header_at {
        4 => u16::from_le_bytes([*body.get(2)?, *body.get(3)?]).into(),
        _ => u32::from_le_bytes(body.get(2..6)?.try_into().ok()?) as usize,
    };
    let header = std::str::from_utf8(body.get(header_at..header_at + header_len)?).ok()?;
    let after = |key: &str| header.split_once(key).map(|(_, rest)| rest);
    let descr = after("'descr': '")?.split('\'').next()?;
    let shape = after("'shape': (")?.split(')').next()?;
    let mut sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
    let len: usize = sizes.next()?.parse().ok()?;
    let width: usize = descr.get(2..)?.parse().ok()?;
    if sizes.next().is_some() || width == 0 {
        return None;
    }
    let values = body
        .get(header_at + header_len..)?
        .get(..len.checked_mul(width)?)?;
    // Zero is all zero bits in every integer and float type; minus zero does not occur in labels.
    Some(
        values
            .chunks_exact(width)
            .map(|value| value.iter().any(|&byte| byte != 0))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_shard(path: &Path, members: &[(&str, &[u8])]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut builder = tar::Builder::new(File::create(path).unwrap());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.finish().unwrap();
    }

    fn npy(values: &[u8]) -> Vec<u8> {
        let mut header = format!(
            "{{'descr': '|u1', 'fortran_order': False, 'shape': ({},), }}",
            values.len()
        );
        header.push_str(&" ".repeat(118 - 1 - header.len()));
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(header.bytes());
        bytes.extend(values);
        bytes
    }

    #[test]
    fn classes_prompts_and_image_bytes_are_found_across_shards() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write_shard(
            &root.join("test/0.tar"),
            &[("s0.cls", b"1"), ("s0.webp", b"first image")],
        );
        write_shard(
            &root.join("test/1.tar"),
            &[("s1.webp", b"second"), ("s1.cls", b"0\n")],
        );
        std::fs::write(root.join("test/nshards.txt"), "2\n").unwrap();
        std::fs::write(root.join("classnames.txt"), "cat\ndog\n").unwrap();
        std::fs::write(
            root.join("zeroshot_classification_templates.txt"),
            "a {c}.\n",
        )
        .unwrap();
        let WebDataset::Classification(data) = webdataset("wds/x", root, "test").unwrap() else {
            panic!()
        };
        assert_eq!(data.labels, Labels::Single(vec![1, 0]));
        assert_eq!(data.images[0].read().unwrap(), b"first image");
        assert_eq!(data.images[1].read().unwrap(), b"second");
        assert_eq!(
            data.templates,
            Some(Templates::Shared(vec!["a {c}.".into()]))
        );
        std::fs::write(root.join("classnames.txt"), "cat\n").unwrap();
        assert!(
            webdataset("wds/x", root, "test")
                .unwrap_err()
                .to_string()
                .contains("class 1")
        );
    }

    #[test]
    fn captions_and_multi_hot_labels_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write_shard(
            &root.join("test/0.tar"),
            &[("a.jpg", b"x"), ("a.txt", b"one\\ntwo\nthree\n")],
        );
        std::fs::write(root.join("test/nshards.txt"), "1").unwrap();
        std::fs::write(root.join("dataset_type.txt"), "retrieval").unwrap();
        let WebDataset::Retrieval(data) = webdataset("wds/x", root, "test").unwrap() else {
            panic!()
        };
        assert_eq!(data.texts, ["one\ntwo", "three"]);

        write_shard(
            &root.join("test/0.tar"),
            &[("a.jpg", b"x"), ("a.npy", &npy(&[0, 1, 1]))],
        );
        std::fs::write(root.join("dataset_type.txt"), "multilabel").unwrap();
        let WebDataset::Classification(data) = webdataset("wds/x", root, "test").unwrap() else {
            panic!()
        };
        assert_eq!(
            data.labels,
            Labels::Multi {
                classes: 3,
                relevant: vec![false, true, true]
            }
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(
            webdataset("x", root, "test")
                .unwrap_err()
                .to_string()
                .contains("nshards.txt")
        );
        write_shard(&root.join("test/0.tar"), &[("a.jpg", b"x")]);
        std::fs::write(root.join("test/nshards.txt"), "1").unwrap();
        assert!(
            webdataset("x", root, "test")
                .unwrap_err()
                .to_string()
                .contains("sample a has no cls")
        );
        let shard = root.join("test/0.tar");
        write_shard(&shard, &[("a.jpg", &[1; 4000]), ("a.cls", b"0")]);
        let bytes = std::fs::read(&shard).unwrap();
        std::fs::write(&shard, &bytes[..2000]).unwrap();
        assert!(webdataset("x", root, "test").is_err());
    }
}
