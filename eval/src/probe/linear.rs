//! Softmax regression on any backend. The gradient of one linear layer is written out: no autodiff backend is needed.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::features::Features;
use crate::probe::permutation;

const BETAS: (f32, f32) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;
/// Rows that are classified at a time.
const AT_ONCE: usize = 4096;

/// How to train a [`Linear`].
#[derive(Clone, Debug, PartialEq)]
pub struct LinearTraining {
    /// Number of outputs.
    pub classes: usize,
    /// Passes over the data.
    pub epochs: usize,
    /// Learning rate at the start; a cosine leads to zero.
    pub lr: f64,
    /// Decoupled weight decay of AdamW, on the bias too.
    pub weight_decay: f64,
    /// Rows per step; the last step of an epoch takes what is left.
    pub batch_size: usize,
    /// Of the initial weights and the order of rows.
    pub seed: u64,
    /// Scale rows to unit length.
    pub normalize: bool,
}

/// A linear layer with bias.
#[derive(Clone, Debug)]
pub struct Linear<B: Backend> {
    weight: Tensor<B, 2>,
    bias: Tensor<B, 2>,
    normalize: bool,
}

/// A parameter with its moments.
struct Adam<B: Backend> {
    value: Tensor<B, 2>,
    first: Tensor<B, 2>,
    second: Tensor<B, 2>,
}

impl<B: Backend> Linear<B> {
    /// Minimizes the cross-entropy of `labels` with AdamW.
    ///
    /// # Panics
    ///
    /// Panics if there is not one label below `classes` per row.
    pub fn train(
        features: &Features,
        labels: &[usize],
        training: &LinearTraining,
        device: &B::Device,
    ) -> Self {
        assert!(features.len() == labels.len() && labels.iter().all(|&l| l < training.classes));
        let mut rng = ChaCha8Rng::seed_from_u64(training.seed);
        let (dim, classes, rows) = (features.dim(), training.classes, labels.len());
        // PyTorch's default for a linear layer.
        let bound = 1.0 / (dim as f32).sqrt();
        let mut uniform = |shape: [usize; 2]| {
            let values = (0..shape[0] * shape[1]).map(|_| rng.random_range(-bound..bound));
            Adam::new(Tensor::from_data(
                TensorData::new(values.collect(), shape),
                device,
            ))
        };
        let (mut weight, mut bias) = (uniform([dim, classes]), uniform([1, classes]));
        let steps = training.epochs * rows.div_ceil(training.batch_size);
        let mut step = 0;
        for _ in 0..training.epochs {
            for batch in permutation(rows, &mut rng).chunks(training.batch_size) {
                let lr = cosine(training.lr, step, steps);
                step += 1;
                let x = rows_of::<B>(features, batch, training.normalize, device);
                let target: Vec<i32> = batch.iter().map(|&row| labels[row] as i32).collect();
                let target = TensorData::new(target, [batch.len()]);
                let target = Tensor::<B, 1, Int>::from_data(target, device)
                    .one_hot::<2>(classes)
                    .float();
                let logits = x.clone().matmul(weight.value.clone()) + bias.value.clone();
                // Gradient of the mean cross-entropy with respect to the logits.
                let error = (softmax(logits, 1) - target).div_scalar(batch.len() as f32);
                weight.step(
                    x.transpose().matmul(error.clone()),
                    lr,
                    training.weight_decay,
                    step,
                );
                bias.step(error.sum_dim(0), lr, training.weight_decay, step);
            }
        }
        Self {
            weight: weight.value,
            bias: bias.value,
            normalize: training.normalize,
        }
    }

    /// Logits of all rows, row-major `[rows, classes]`.
    pub fn logits(&self, features: &Features) -> Vec<f32> {
        let device = self.weight.device();
        let rows: Vec<usize> = (0..features.len()).collect();
        let mut all = Vec::with_capacity(features.len() * self.weight.dims()[1]);
        for rows in rows.chunks(AT_ONCE) {
            let inputs = rows_of::<B>(features, rows, self.normalize, &device);
            let logits = inputs.matmul(self.weight.clone()) + self.bias.clone();
            let logits = logits.into_data().convert::<f32>();
            all.extend_from_slice(logits.as_slice::<f32>().expect("converted to f32"));
        }
        all
    }
}

impl<B: Backend> Adam<B> {
    fn new(value: Tensor<B, 2>) -> Self {
        Self {
            first: value.zeros_like(),
            second: value.zeros_like(),
            value,
        }
    }

    /// One step of AdamW (Loshchilov & Hutter, 2019) with PyTorch's defaults; `step` counts from 1.
    fn step(&mut self, gradient: Tensor<B, 2>, lr: f64, weight_decay: f64, step: usize) {
        let (b1, b2) = BETAS;
        self.first = self.first.clone() * b1 + gradient.clone() * (1.0 - b1);
        self.second = self.second.clone() * b2 + gradient.square() * (1.0 - b2);
        let first = self.first.clone() / (1.0 - b1.powi(step as i32));
        let second = self.second.clone() / (1.0 - b2.powi(step as i32));
        let decayed = self.value.clone() * (1.0 - lr * weight_decay);
        self.value = decayed - first / (second.sqrt() + EPSILON) * lr;
    }
}

/// Some rows on the device: embeddings of millions of images need not fit there.
fn rows_of<B: Backend>(
    features: &Features,
    rows: &[usize],
    unit: bool,
    device: &B::Device,
) -> Tensor<B, 2> {
    let shape = [rows.len(), features.dim()];
    let mut values = vec![0.0f32; shape[0] * shape[1]];
    for (&row, out) in rows.iter().zip(values.chunks_exact_mut(features.dim())) {
        if unit {
            features.copy_unit_row(row, out);
        } else {
            features.copy_row(row, out);
        }
    }
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn cosine(lr: f64, step: usize, steps: usize) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos()) * lr
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;

    #[test]
    fn the_schedule_is_a_cosine_from_lr_towards_zero() {
        assert_eq!(cosine(0.1, 0, 10), 0.1);
        assert!((cosine(0.1, 5, 10) - 0.05).abs() < 1e-12);
        assert!(cosine(0.1, 9, 10) > 0.0);
    }

    /// By hand: the first step moves every weight by the learning rate against the sign of its gradient.
    #[test]
    fn the_first_adamw_step_has_the_size_of_the_learning_rate() {
        let device = Default::default();
        let mut weight = Adam::<Flex>::new(Tensor::from_data([[1.0, -2.0]], &device));
        weight.step(Tensor::from_data([[0.5, -3.0]], &device), 0.1, 0.01, 1);
        let got = weight.value.into_data().to_vec::<f32>().unwrap();
        let want = [1.0 * (1.0 - 0.001) - 0.1, -2.0 * (1.0 - 0.001) + 0.1];
        assert!(
            got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6),
            "{got:?}"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_weights() {
        let features = Features::new((0..40).map(|i| (i as f32).sin()).collect(), 4).unwrap();
        let labels: Vec<usize> = (0..10).map(|i| i % 3).collect();
        let training = LinearTraining {
            classes: 3,
            epochs: 3,
            lr: 0.1,
            weight_decay: 0.1,
            batch_size: 4,
            seed: 7,
            normalize: true,
        };
        let train = |training: &LinearTraining| {
            Linear::<Flex>::train(&features, &labels, training, &Default::default())
                .logits(&features)
        };
        assert_eq!(train(&training), train(&training));
        let other_seed = LinearTraining {
            seed: 8,
            ..training.clone()
        };
        assert_ne!(train(&training), train(&other_seed));
        let as_they_are = LinearTraining {
            normalize: false,
            ..training.clone()
        };
        assert_ne!(train(&training), train(&as_they_are));
    }
}
