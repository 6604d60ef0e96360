//! LLM2CLIP in small. Reference: `tests/reference/llm2clip.py` (PyTorch, transformers 5.23, peft 0.21, float32, CPU).

mod adapter;
mod contrast;
mod groups;
mod released;
mod sizes;
mod stage2;

use crate::fixture::{assert_close, distance};
use burn::prelude::*;
use clip_burn::clip::checkpoint::{StateDict, read_state_dict};
use std::path::PathBuf;

/// Of the largest entry.
const TOLERANCE: f32 = 1e-5;
/// Of the largest entry, where a whole Llama lies between.
const LLAMA_TOLERANCE: f32 = 1e-4;

fn path(name: &str) -> PathBuf {
    tests::fixture("llm2clip").join(name)
}

fn text(name: &str) -> String {
    path(name).display().to_string()
}

/// Asserts that the largest difference is below `tolerance` times the largest entry, and says how large it is.
#[track_caller]
fn assert_relative(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    println!(
        "{what}: differs by {:.1e}",
        distance(got, expected) / largest
    );
    assert_close(what, got, expected, tolerance * largest);
}

struct Fixture(StateDict);

impl Fixture {
    fn read(name: &str) -> Self {
        Self(read_state_dict(&path(&format!("{name}.safetensors"))).unwrap())
    }

    fn values(&self, name: &str) -> Vec<f32> {
        let tensor = self.0.get(name).unwrap_or_else(|| panic!("no {name}"));
        tensor.values()
    }

    fn tensor<B: Backend, const D: usize>(&self, name: &str) -> Tensor<B, D> {
        let shape: [usize; D] = self.0.get(name).unwrap().shape().try_into().unwrap();
        Tensor::from_data(
            TensorData::new(self.values(name), shape),
            &Default::default(),
        )
    }
}
