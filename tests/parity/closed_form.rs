//! Models whose weights and inputs follow from a formula, so that only samples of the reference's results need to be
//! stored. References: `tests/reference/vit_b_32.py`, of full size, and `resnet.py`.

use burn::prelude::*;
use clip_burn::clip::checkpoint::{HostTensor, StateDict, canonical, collect, to_open_clip};
use clip_burn::clip::{Clip, ModelConfig};
use std::path::Path;

/// The architecture.
pub const PRESET: &str = "ViT-B-32";

/// Of the three steps of AdamW.
pub const LEARNING_RATE: f64 = 1e-4;

const BATCH: usize = 8;
const SIZE: usize = 224;
const CONTEXT: usize = 77;
/// Entries that the reference stores of a tensor, at most.
const SAMPLES: usize = 64;

/// Evenly spaced entries.
pub fn sampled(values: &[f32]) -> Vec<f32> {
    let stride = (values.len() / SAMPLES) | 1; // odd, so that the columns of a matrix change
    values
        .iter()
        .step_by(stride)
        .take(SAMPLES)
        .copied()
        .collect()
}

/// The weights of a model, under our names.
pub fn weights<B: Backend>(of: &Clip<B>, config: &ModelConfig) -> StateDict {
    let ours = collect::<B, _>(of);
    let shapes = to_open_clip(ours, config);
    let filled: StateDict = shapes
        .iter()
        .map(|(name, tensor)| (name.to_string(), weight(name, tensor.shape())))
        .collect();
    canonical(filled, Path::new("closed form")).unwrap().1
}

/// Pixels of the batch of full size.
pub fn image() -> HostTensor {
    let pixels = noise("image", BATCH * 3 * SIZE * SIZE).map(|u| 1.5 * u);
    HostTensor::from_values(pixels.collect(), [BATCH, 3, SIZE, SIZE])
}

/// An image of coarse pixels, each `block` fine ones wide and high.
pub fn enlarged(coarse: &HostTensor, block: usize) -> HostTensor {
    let [batch, channels, height, width] = *coarse.shape() else {
        panic!("{coarse:?}");
    };
    let values = coarse.values();
    let rows = values.chunks(width).flat_map(|row| {
        let row: Vec<f32> = row.iter().flat_map(|x| vec![*x; block]).collect();
        row.repeat(block)
    });
    let shape = [batch, channels, height * block, width * block];
    HostTensor::from_values(rows.collect(), shape)
}

/// Ids of the batch of full size.
pub fn ids() -> HostTensor {
    let hash = hash(b"ids");
    let mut ids = vec![0f32; BATCH * CONTEXT];
    for (row, ids) in ids.chunks_mut(CONTEXT).enumerate() {
        let words = 5 + 3 * row;
        ids[0] = 49406.0;
        for (column, id) in ids.iter_mut().enumerate().skip(1).take(words) {
            *id = (1 + mixed(row * CONTEXT + column, hash) % 49_000) as f32;
        }
        ids[words + 1] = 49407.0;
    }
    HostTensor::from_values(ids, [BATCH, CONTEXT])
}

/// Values of about the spread that a trained model has, by the role of the tensor.
fn weight(name: &str, shape: &[usize]) -> HostTensor {
    let len = shape.iter().product();
    let is = |end: &str| name.ends_with(end);
    let (offset, scale) = if name == "logit_scale" {
        ((1.0 / 0.07f64).ln() as f32, 0.0)
    } else if is("bias") {
        (0.0, 0.02)
    } else if is("running_mean") {
        (0.0, 0.1)
    } else if is("running_var") {
        (0.6, 0.18)
    } else if is(".weight") && shape.len() == 1 {
        (1.0, 0.1)
    } else if is("positional_embedding") || is("class_embedding") || is("token_embedding.weight") {
        (0.0, 0.02)
    } else {
        let inputs: usize = match name {
            "visual.proj" | "text_projection" => shape[0],
            _ => shape[1..].iter().product(),
        };
        (0.0, (3.0 / inputs as f64).sqrt() as f32)
    };
    let values = noise(name, len).map(|u| offset + scale * u).collect();
    HostTensor::from_values(values, shape)
}

/// Uniform in [-1, 1), a function of the name and the position.
fn noise(name: &str, len: usize) -> impl Iterator<Item = f32> {
    let hash = hash(name.as_bytes());
    (0..len).map(move |i| (mixed(i, hash) >> 8) as f32 / 8_388_608.0 - 1.0)
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

fn mixed(position: usize, hash: u32) -> u32 {
    let mut x = (position as u32)
        .wrapping_mul(2_654_435_761)
        .wrapping_add(hash);
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}
