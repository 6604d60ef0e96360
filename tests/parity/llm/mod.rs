//! Tiny Llamas against transformers. Reference: `tests/reference/llm.py` (transformers 5.23, float32, CPU).

mod encoder;
mod files;
mod generation;
mod logits;
mod lora;
mod losses;
mod memory;
mod tokenizer;
mod written;

use crate::fixture::{assert_close, distance};
use burn::prelude::*;
use burn::tensor::TensorData;
use clip_burn::clip::checkpoint::{StateDict, read_state_dict};
use clip_burn::llm::{LoadOptions, Pretrained, Prompt};
use std::path::PathBuf;

/// The logits reach 15; two layers round to about 1e-5 of that.
const TOLERANCE: f32 = 1e-4;
const VARIANTS: [&str; 5] = ["llama1", "llama2", "llama3", "llama3_tied", "linear"];

fn path(name: &str) -> PathBuf {
    tests::fixture("llm").join(name)
}

fn load<B: Backend>(name: &str) -> Pretrained<B> {
    Pretrained::load(&path(name), &LoadOptions::default(), &Default::default()).unwrap()
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

    fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.0.get(name).unwrap().values()
    }

    fn list(&self, name: &str) -> Vec<u32> {
        self.values(name).iter().map(|id| *id as u32).collect()
    }

    fn prompts(&self) -> Vec<Prompt> {
        (0..4)
            .map(|i| Prompt {
                ids: self.list(&format!("prompt.{i}")),
                seed: 0,
            })
            .collect()
    }

    fn ids<B: Backend>(&self) -> Tensor<B, 2, Int> {
        self.ids_of("ids")
    }

    fn ids_of<B: Backend>(&self, name: &str) -> Tensor<B, 2, Int> {
        let tensor = self.0.get(name).unwrap();
        let shape: [usize; 2] = tensor.shape().try_into().unwrap();
        let ids: Vec<i32> = tensor.values().iter().map(|id| *id as i32).collect();
        Tensor::from_data(TensorData::new(ids, shape), &Default::default())
    }
}
