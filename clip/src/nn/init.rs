//! Initial values of parameters, drawn on the host.
//!
//! A seed gives the same model on every backend, which device generators do not promise.

use burn::module::{Param, ParamId};
use burn::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How the weights of a tower start, by the family that it follows. Checkpoints are not concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TowerInit {
    /// open_clip's own towers, after Radford et al. (2021).
    OpenClip,
    /// timm's class token and positions, PyTorch's `Linear` in the blocks: the vision tower of SLIP and LaCLIP.
    Timm,
    /// CLIPS and CLIPA in JAX; positions of the vision tower are a fixed table.
    Clips,
    /// SigLIP as timm and open_clip build it.
    #[serde(rename = "siglip")]
    SigLip,
    /// EVA-02: branches shrink with the depth of their block, and the head starts near zero.
    Eva02,
}

/// Source of initial values, handed from layer to layer while a model is built.
#[derive(Debug, Clone)]
pub enum Init {
    /// Draws from a seeded generator.
    Random(Box<ChaCha8Rng>),
    /// A skeleton whose parameters a checkpoint will replace: zeros that take no memory until somebody reads them.
    Zeros,
}

impl Init {
    /// Random values that are a function of `seed` alone.
    pub fn seeded(seed: u64) -> Self {
        Self::Random(Box::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// Independent normal values with mean zero.
    pub fn normal<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        std: f64,
        device: &Device<B>,
    ) -> Param<Tensor<B, D>> {
        self.param(shape, device, |rng| (standard_normal(rng) * std) as f32)
    }

    /// Normal values with mean zero, redrawn until within two units of zero (timm's `trunc_normal_`).
    pub fn truncated_normal<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        std: f64,
        device: &Device<B>,
    ) -> Param<Tensor<B, D>> {
        self.param(shape, device, |rng| {
            loop {
                let value = standard_normal(rng) * std;
                if value.abs() <= 2.0 {
                    return value as f32;
                }
            }
        })
    }

    /// Normal values with mean zero, redrawn until within two deviations of zero (timm's `trunc_normal_tf_`, JAX's
    /// `truncated_normal`). What is left has 0.88 of the deviation.
    pub fn cut_normal<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        std: f64,
        device: &Device<B>,
    ) -> Param<Tensor<B, D>> {
        self.param(shape, device, |rng| {
            loop {
                let value = standard_normal(rng);
                if value.abs() <= 2.0 {
                    return (value * std) as f32;
                }
            }
        })
    }

    /// Uniform values in `[-bound, bound)`.
    pub fn uniform<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        bound: f64,
        device: &Device<B>,
    ) -> Param<Tensor<B, D>> {
        self.param(shape, device, |rng| rng.random_range(-bound..bound) as f32)
    }

    /// A constant; needs no generator.
    pub fn constant<B: Backend, const D: usize>(
        &self,
        shape: [usize; D],
        value: f32,
        device: &Device<B>,
    ) -> Param<Tensor<B, D>> {
        if let Self::Zeros = self {
            return skeleton(shape, value, device);
        }
        let data = TensorData::new(vec![value; shape.iter().product()], shape);
        Param::from_tensor(Tensor::from_data(data, device))
    }

    fn param<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        device: &Device<B>,
        mut draw: impl FnMut(&mut ChaCha8Rng) -> f32,
    ) -> Param<Tensor<B, D>> {
        let len = shape.iter().product();
        let values = match self {
            Self::Random(rng) => (0..len).map(|_| draw(rng)).collect::<Vec<_>>(),
            Self::Zeros => return skeleton(shape, 0.0, device),
        };
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
    }
}

/// A parameter that is made when it is first read, which for one that is loaded over is never.
fn skeleton<B: Backend, const D: usize>(
    shape: [usize; D],
    value: f32,
    device: &Device<B>,
) -> Param<Tensor<B, D>> {
    let make = move |device: &Device<B>, tracked: bool| {
        let tensor = Tensor::full(shape, value, device);
        if tracked {
            tensor.require_grad()
        } else {
            tensor
        }
    };
    Param::uninitialized(ParamId::new(), make, device.clone(), true, shape.into())
}

/// Box–Muller; one value per pair of draws keeps the stream independent of the shape's parity.
fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn normal_draws_have_the_requested_moments_and_repeat_with_the_seed() {
        let device = Default::default();
        let draw = || {
            Init::seeded(7)
                .normal::<Flex, 2>([100, 100], 0.5, &device)
                .val()
        };
        let (mean, var) = (
            draw().mean().into_scalar(),
            draw().square().mean().into_scalar(),
        );
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((var - 0.25).abs() < 0.02, "{var}");
        assert_eq!(draw().into_data(), draw().into_data());
    }
}
