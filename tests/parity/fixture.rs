use burn::prelude::*;
use burn::tensor::TensorData;
use clip_burn::clip::checkpoint::{HostTensor, StateDict, apply, canonical, read_state_dict};
use clip_burn::clip::{Clip, ModelConfig, Precision};
use std::path::{Path, PathBuf};

/// A tiny model of the reference with its inputs and outputs.
pub struct Fixture {
    pub config: ModelConfig,
    tensors: StateDict,
    path: PathBuf,
}

impl Fixture {
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/fixtures/towers/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let config = &header.metadata().as_ref().unwrap()["model_cfg"];
        Self {
            config: ModelConfig::from_json(&serde_json::from_str(config).unwrap()).unwrap(),
            tensors: read_state_dict(&path).unwrap(),
            path,
        }
    }

    /// The tensors whose names start with `prefix`, without it, under our names.
    pub fn weights(&self, prefix: &str) -> StateDict {
        let chosen = self
            .tensors
            .clone()
            .rename(|name| name.strip_prefix(prefix).map(Into::into));
        canonical(chosen, &self.path).unwrap().1
    }

    pub fn model<B: Backend>(&self, device: &B::Device) -> Clip<B> {
        let skeleton = self.config.init::<B>(0, Precision::F32, device);
        apply(skeleton, self.weights("model."), &self.path, device).unwrap()
    }

    fn host(&self, name: &str) -> &HostTensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in the fixture"))
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        self.host(name).values()
    }

    pub fn image<B: Backend>(&self, device: &B::Device) -> Tensor<B, 4> {
        let shape: [usize; 4] = self.host("image").shape().try_into().unwrap();
        Tensor::from_data(TensorData::new(self.values("image"), shape), device)
    }

    pub fn ids<B: Backend>(&self, device: &B::Device) -> Tensor<B, 2, Int> {
        let shape: [usize; 2] = self.host("ids").shape().try_into().unwrap();
        let ids: Vec<i32> = self.values("ids").iter().map(|id| *id as i32).collect();
        Tensor::from_data(TensorData::new(ids, shape), device)
    }
}

pub fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap()
}

/// Largest absolute difference.
pub fn distance(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    got.iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    let distance = distance(got, expected);
    assert!(
        distance <= tolerance,
        "{what}: differs by {distance:e}, allowed {tolerance:e}"
    );
}

impl Fixture {
    /// The tensors whose names start with `prefix`, without it, as the reference wrote them.
    pub fn raw(&self, prefix: &str) -> StateDict {
        self.tensors
            .clone()
            .rename(|name| name.strip_prefix(prefix).map(Into::into))
    }
}
