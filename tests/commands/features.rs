//! The file that `embed` writes.

use clip_burn::clip::checkpoint::{StateDict, read_state_dict};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::path::Path;

pub struct Features {
    tensors: StateDict,
    metadata: HashMap<String, String>,
}

impl Features {
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        Self {
            tensors: read_state_dict(path).unwrap(),
            metadata: header.metadata().clone().unwrap(),
        }
    }

    /// Names of the tensors with their shapes.
    pub fn shapes(&self) -> Vec<(&str, &[usize])> {
        self.tensors.iter().map(|(n, t)| (n, t.shape())).collect()
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        self.tensors.get(name).unwrap().values()
    }

    pub fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let width = self.tensors.get(name).unwrap().shape()[1];
        self.values(name).chunks(width).map(Into::into).collect()
    }

    /// A JSON array of the metadata.
    pub fn list(&self, name: &str) -> Vec<String> {
        serde_json::from_str(&self.metadata[name]).unwrap()
    }
}

/// Largest absolute difference must not exceed `tolerance`.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let distance = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // Not `f32::max`, which would drop a NaN.
    let worst = distance.fold(0.0, |a: f32, b| if b <= a { a } else { b });
    assert!(
        worst <= tolerance,
        "{what}: differs by {worst:e}, allowed {tolerance:e}"
    );
}
