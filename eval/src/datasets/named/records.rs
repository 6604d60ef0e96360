//! Files of raw pixels: records of one size (CIFAR, STL-10), and MNIST's idx format.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;

use super::{Labelled, Set};
use crate::error::{EvalError, Result};
use crate::images::{ImageRef, RawLayout, RawPixels};

/// A label, then 32 × 32 pixels, plane by plane.
pub(super) fn cifar10(set: &Set) -> Labelled {
    let files = match set.split {
        "test" => vec!["test_batch.bin".to_owned()],
        _ => (1..6).map(|i| format!("data_batch_{i}.bin")).collect(),
    };
    cifar(set, &files, 1, ["cifar-10-batches-py", "batches.meta"])
}

/// A coarse and a fine label, then as CIFAR-10.
pub(super) fn cifar100(set: &Set) -> Labelled {
    cifar(
        set,
        &[format!("{}.bin", set.split)],
        2,
        ["cifar-100-python", "meta"],
    )
}

fn cifar(set: &Set, files: &[String], labels: usize, python: [&str; 2]) -> Labelled {
    let layout = RawLayout {
        width: 32,
        height: 32,
        channels: 3,
        by_column: false,
    };
    let record = labels + layout.bytes();
    let (mut images, mut classes) = (Vec::new(), Vec::new());
    // What torchvision has, in its folder or as the root.
    let mut pickled = python.iter().map(|name| set.root.join(name));
    let pickled = pickled.find(|path| path.exists());
    for file in files {
        let path = set.root.join(file);
        if let Some(pickled) = pickled.iter().find(|_| !path.is_file()) {
            let reason = format!(
                "the Python version, which is pickled; get the binary version beside it, `eval fetch {}` prints how",
                set.name
            );
            return Err(EvalError::format(pickled, reason));
        }
        let bytes = std::fs::read(&path).map_err(EvalError::io(&path))?;
        whole_records(&path, bytes.len(), record)?;
        for (place, one) in bytes.chunks_exact(record).enumerate() {
            classes.push(set.class(u64::from(one[labels - 1]), 0, &path, place)?);
            let offset = (place * record + labels) as u64;
            images.push(raw(&path, place, offset, layout, None));
        }
    }
    Ok((images, classes))
}

/// 96 × 96 pixels, plane by plane and column by column; labels from 1 in a file of their own.
pub(super) fn stl10(set: &Set) -> Labelled {
    let layout = RawLayout {
        width: 96,
        height: 96,
        channels: 3,
        by_column: true,
    };
    let file = |kind: &str| set.root.join(format!("{}_{kind}.bin", set.split));
    let (pixels, labels) = (file("X"), file("y"));
    let len = std::fs::metadata(&pixels)
        .map_err(EvalError::io(&pixels))?
        .len() as usize;
    let images = whole_records(&pixels, len, layout.bytes())?;
    let labels_read = std::fs::read(&labels).map_err(EvalError::io(&labels))?;
    as_many(&labels, labels_read.len(), images, &pixels)?;
    let classes = labels_read.iter().enumerate();
    let classes = classes.map(|(place, label)| set.class(u64::from(*label), 1, &labels, place));
    let images = (0..images).map(|i| raw(&pixels, i, (i * layout.bytes()) as u64, layout, None));
    Ok((images.collect(), classes.collect::<Result<_>>()?))
}

/// A magic number, sizes, and bytes; as they are or compressed.
pub(super) fn mnist(set: &Set) -> Labelled {
    let prefix = match set.split {
        "test" => "t10k",
        _ => "train",
    };
    let (pixels, image_bytes) = idx(&set.root, &format!("{prefix}-images-idx3-ubyte"))?;
    // Before the labels are in memory too: a compressed file may be long and say nothing.
    let [images, height, width] = sizes(&pixels, &image_bytes)?;
    let (labels, label_bytes) = idx(&set.root, &format!("{prefix}-labels-idx1-ubyte"))?;
    let [labelled] = sizes(&labels, &label_bytes)?;
    as_many(&labels, labelled, images, &pixels)?;
    let layout = RawLayout {
        width: width as u32,
        height: height as u32,
        channels: 1,
        by_column: false,
    };
    let packed = pixels
        .extension()
        .is_some_and(|extension| extension == "gz");
    let unpacked = packed.then(|| Arc::new(image_bytes));
    let images = (0..images).map(|i| {
        let offset = (16 + i * layout.bytes()) as u64;
        raw(&pixels, i, offset, layout, unpacked.clone())
    });
    let classes = label_bytes[8..].iter().enumerate();
    let classes = classes.map(|(place, label)| set.class(u64::from(*label), 0, &labels, place));
    Ok((images.collect(), classes.collect::<Result<_>>()?))
}

/// An idx file, or else the same compressed. The error is that of the plain one.
fn idx(root: &Path, name: &str) -> Result<(PathBuf, Vec<u8>)> {
    let (plain, packed) = (root.join(name), root.join(format!("{name}.gz")));
    if plain.is_file() || !packed.is_file() {
        let bytes = std::fs::read(&plain).map_err(EvalError::io(&plain))?;
        return Ok((plain, bytes));
    }
    Ok((packed.clone(), unpack(&packed)?))
}

/// Longest content of a compressed file of pixels; MNIST's have 47 MB.
const MAX_UNPACKED: u64 = 128 << 20;

/// The content of a gzip file.
pub(crate) fn unpack(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(EvalError::io(path))?;
    let mut bytes = Vec::new();
    let read = GzDecoder::new(file)
        .take(MAX_UNPACKED)
        .read_to_end(&mut bytes);
    read.map_err(|error| {
        EvalError::format(
            path,
            format!("not a whole gzip file: {error}; get it again"),
        )
    })?;
    Ok(bytes)
}

/// The sizes in the head of an idx file of bytes, which must be as long as they say.
fn sizes<const N: usize>(path: &Path, bytes: &[u8]) -> Result<[usize; N]> {
    let head = 4 + 4 * N;
    let magic = [0, 0, 8, N as u8];
    if bytes.len() < head || bytes[..4] != magic {
        let reason = format!(
            "no idx file of bytes in {N} dimensions: it begins with {:?}, not {magic:?}; get it again",
            &bytes[..bytes.len().min(4)]
        );
        return Err(EvalError::format(path, reason));
    }
    let mut sizes = [0; N];
    for (size, b) in sizes.iter_mut().zip(bytes[4..].as_chunks::<4>().0) {
        *size = u32::from_be_bytes(*b) as usize;
    }
    let product = sizes.iter().try_fold(1usize, |a, b| a.checked_mul(*b));
    let expected = product.and_then(|bytes| bytes.checked_add(head));
    if expected != Some(bytes.len()) || sizes.contains(&0) {
        let reason = format!(
            "{} bytes, which is not what its sizes {sizes:?} need; get it again",
            bytes.len()
        );
        return Err(EvalError::format(path, reason));
    }
    Ok(sizes)
}

/// The number of records in a file.
fn whole_records(path: &Path, len: usize, record: usize) -> Result<usize> {
    if len == 0 || !len.is_multiple_of(record) {
        let reason = format!(
            "{len} bytes, which is no number of images of {record} bytes each; get it again"
        );
        return Err(EvalError::format(path, reason));
    }
    Ok(len / record)
}

fn as_many(path: &Path, labels: usize, images: usize, pixels: &Path) -> Result<()> {
    if labels == images {
        return Ok(());
    }
    let reason = format!(
        "{labels} labels for the {images} images of {}; get both again",
        pixels.display()
    );
    Err(EvalError::format(path, reason))
}

fn raw(
    file: &Path,
    index: usize,
    offset: u64,
    layout: RawLayout,
    unpacked: Option<Arc<Vec<u8>>>,
) -> ImageRef {
    ImageRef::Raw(RawPixels {
        file: file.into(),
        index: index as u64,
        offset,
        layout,
        unpacked,
    })
}
