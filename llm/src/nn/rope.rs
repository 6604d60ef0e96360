use crate::config::{LlamaConfig, RopeScaling};
use burn::prelude::*;
use burn::tensor::{DType, TensorData};
use std::f64::consts::TAU;

/// Rotary positions in the half-rotation form: entry `i` of a head turns with entry `i + head_dim / 2`.
///
/// Meta's files pair neighbours instead; their rows are reordered on loading.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Radians per position, one for each pair.
    frequencies: Vec<f32>,
}

impl Rope {
    /// Frequencies of a model.
    pub fn new(config: &LlamaConfig) -> Self {
        let dim = config.head_dim;
        let frequency = |i: usize| {
            let plain = config.rope_theta.powf(-(2.0 * i as f64) / dim as f64);
            config.rope_scaling.apply(plain) as f32
        };
        Self {
            frequencies: (0..dim / 2).map(frequency).collect(),
        }
    }

    /// Sines and cosines of the positions `start..start + len`.
    pub fn rotation<B: Backend>(
        &self,
        start: usize,
        len: usize,
        device: &Device<B>,
    ) -> Rotation<B> {
        // Angles are rounded to f32 first, as the reference does: that is what the models were trained with.
        let angles: Vec<f64> = (start..start + len)
            .flat_map(|position| {
                let angle = move |frequency: &f32| f64::from(frequency * position as f32);
                let half = self.frequencies.iter().map(angle);
                half.clone().chain(half)
            })
            .collect();
        let table = |of: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| of(*angle) as f32).collect();
            let data = TensorData::new(values, [1, len, 1, 2 * self.frequencies.len()]);
            Tensor::from_data(data, (device, DType::F32))
        };
        Rotation {
            cos: table(f64::cos),
            sin: table(f64::sin),
        }
    }
}

impl RopeScaling {
    fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            } => {
                let wavelength = TAU / frequency;
                if wavelength < original / high_freq_factor {
                    frequency
                } else if wavelength > original / low_freq_factor {
                    frequency / factor
                } else {
                    let kept = (original / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - kept) * frequency / factor + kept * frequency
                }
            }
        }
    }
}

/// Turns queries and keys by their positions.
#[derive(Debug, Clone)]
pub struct Rotation<B: Backend> {
    /// `[1 or batch, seq, 1, head_dim]`, f32.
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
}

impl<B: Backend> Rotation<B> {
    /// The turns of rows that are padded on the left, each of which begins at position 0 after its padding.
    ///
    /// # Shapes
    ///
    /// - self: `[1, seq, 1, head_dim]`, positions from 0 on
    /// - lengths: one per row, each at most `seq`
    pub fn left_padded(self, lengths: &[usize], device: &Device<B>) -> Self {
        let [_, seq, _, dim] = self.cos.dims();
        if lengths.iter().all(|length| *length == seq) {
            return self;
        }
        let position = |length: usize| (0..seq).map(move |i| i.saturating_sub(seq - length) as i32);
        let positions: Vec<i32> = lengths.iter().flat_map(|len| position(*len)).collect();
        let positions = Tensor::<B, 1, Int>::from_data(positions.as_slice(), device);
        let rows = |table: Tensor<B, 4>| {
            let rows = table.reshape([seq, dim]).select(0, positions.clone());
            rows.reshape([lengths.len(), seq, 1, dim])
        };
        Self {
            cos: rows(self.cos),
            sin: rows(self.sin),
        }
    }

    /// Turns every head of every row.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, heads · head_dim]`
    /// - output: the same, in the dtype of `x`; computed in f32
    pub fn apply(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        if let Some(y) = kernels::rotary(&x, &self.cos, &self.sin) {
            return y;
        }
        let ([batch, seq, width], dtype) = (x.dims(), x.dtype());
        let dim = self.cos.dims()[3];
        let x = x.reshape([batch, seq, width / dim, dim]).cast(DType::F32);
        let (first, second) = (
            x.clone().narrow(3, 0, dim / 2),
            x.clone().narrow(3, dim / 2, dim / 2),
        );
        let turned = Tensor::cat(vec![second.neg(), first], 3);
        let y = x * self.cos.clone() + turned * self.sin.clone();
        y.cast(dtype).reshape([batch, seq, width])
    }
}
