use crate::closed_form;
use burn::prelude::*;
use burn::tensor::TensorData;
use clip_burn::clip::checkpoint::{HostTensor, StateDict, apply, canonical, read_state_dict};
use clip_burn::clip::{Clip, ModelConfig, Precision};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// A model of the reference with its inputs and outputs.
pub struct Fixture {
    pub config: ModelConfig,
    tensors: StateDict,
    metadata: HashMap<String, String>,
    path: PathBuf,
}

/// What the reference has per parameter, under our names.
pub struct Expected {
    pub tensors: StateDict,
    /// Largest absolute value of a tensor of which only a sample is stored.
    pub largest: BTreeMap<String, f32>,
}

impl Expected {
    /// The entries of a tensor that the reference stored: all, or evenly spaced ones.
    pub fn sampled(&self, values: Vec<f32>) -> Vec<f32> {
        match self.largest.is_empty() {
            true => values,
            false => closed_form::sampled(&values),
        }
    }
}

/// The folder of fixtures; below the working directory where the program was carried to another machine.
pub fn fixtures() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiled = [root.join("fixtures"), root.join("tests/fixtures")];
    let found = compiled.into_iter().find(|folder| folder.is_dir());
    found.unwrap_or("tests/fixtures".into())
}

impl Fixture {
    pub fn read(name: &str) -> Self {
        let path = fixtures().join(format!("towers/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        let config = match metadata.get("model_cfg") {
            Some(config) => ModelConfig::from_json(&serde_json::from_str(config).unwrap()),
            None => ModelConfig::preset(closed_form::PRESET),
        };
        let config = config.unwrap();
        let mut tensors = read_state_dict(&path).unwrap();
        if let Some(coarse) = tensors.get("coarse_image") {
            let [side, _] = config.vision_cfg.image_size.sides();
            let image = closed_form::enlarged(coarse, side / coarse.shape()[3]);
            tensors.insert("image", image);
        } else if tensors.get("image").is_none() {
            tensors.insert("image", closed_form::image());
            tensors.insert("ids", closed_form::ids());
        }
        Self {
            config,
            tensors,
            metadata,
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

    pub fn model<B: Backend>(&self, precision: Precision, device: &B::Device) -> Clip<B> {
        let skeleton = self.config.init::<B>(0, precision, device);
        let weights = match self.has_weights() {
            true => self.weights("model."),
            false => closed_form::weights(&skeleton, &self.config),
        };
        apply(skeleton, weights, &self.path, device).unwrap()
    }

    /// What the reference has for every parameter under `prefix`.
    pub fn expected(&self, prefix: &str) -> Expected {
        let largest = self.raw(&format!("{prefix}_max."));
        Expected {
            tensors: self.weights(&format!("{prefix}.")),
            largest: match largest.is_empty() {
                true => BTreeMap::new(),
                false => self
                    .weights(&format!("{prefix}_max."))
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.values()[0]))
                    .collect(),
            },
        }
    }

    /// How far PyTorch's bf16 autocast is from the reference, by quantity as in `measure.rs`.
    pub fn amp_bf16(&self) -> BTreeMap<String, f32> {
        serde_json::from_str(&self.metadata["amp_bf16"]).unwrap()
    }

    /// Learning rate of the reference's three steps.
    pub fn lr(&self) -> f64 {
        match self.has_weights() {
            true => 1e-3,
            false => closed_form::LEARNING_RATE,
        }
    }

    /// Names and shapes of a state dict of which no values are stored.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        serde_json::from_str(&self.metadata["state_dict"]).unwrap()
    }

    fn has_weights(&self) -> bool {
        self.tensors.names().any(|name| name.starts_with("model."))
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

/// Largest absolute difference; infinite where something is not a number, which `max` would pass over.
pub fn distance(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let difference = |(a, b): (&f32, &f32)| match (a - b).abs() {
        difference if difference.is_nan() => f32::INFINITY,
        difference => difference,
    };
    got.iter().zip(expected).map(difference).fold(0.0, f32::max)
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
