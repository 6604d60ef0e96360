//! Fixtures of `tests/reference/pixels.py`, for the tests of this module.

use std::path::PathBuf;

use image::RgbImage;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(super) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/pixels"
    ))
    .join(name)
}

/// The rows of one table of `reference.json`.
pub(super) fn reference(table: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("reference.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let rows = all[table].as_array().unwrap().clone();
    assert!(!rows.is_empty());
    rows
}

pub(super) fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    T::deserialize(value).unwrap()
}

/// The image that the Python script computes with the same formula.
pub(super) fn pattern([height, width]: [u32; 2]) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c| (37 * x + 91 * y + 53 * c + 7 * x * y) as u8))
    })
}

pub(super) fn sha256(image: &RgbImage) -> String {
    Sha256::digest(image.as_raw())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
