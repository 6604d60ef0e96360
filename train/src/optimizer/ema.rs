//! Exponential moving average of the weights.

use super::flat::{map_trained, visit_trained};
use burn::module::Module;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use std::collections::BTreeMap;

/// Averaged trained weights of a model, keyed by path: `average ← average + (1 − decay) · (weights − average)`.
#[derive(Debug)]
pub struct Ema<B: AutodiffBackend> {
    decay: f64,
    average: BTreeMap<String, Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> Ema<B> {
    /// An average that starts at the weights of the first update.
    pub fn new(decay: f64) -> Self {
        Self {
            decay,
            average: BTreeMap::new(),
        }
    }

    /// Takes the current weights into the average.
    pub fn update<M: Module<B>>(&mut self, model: &M) {
        visit_trained(model, |path, _, weights| {
            let average = match self.average.remove(path) {
                None => weights,
                // Not `decay · average + (1 − decay) · weights`: in f32 these factors do not add up to one.
                Some(average) => average.clone() + (weights - average) * (1.0 - self.decay),
            };
            self.average.insert(path.to_string(), average);
        });
    }

    /// A copy of the model with the averaged weights.
    pub fn apply<M: Module<B>>(&self, model: M) -> M {
        map_trained(model, |path, _, weights| {
            self.average.get(path).cloned().unwrap_or(weights)
        })
    }

    /// The averages as flat vectors by path.
    pub fn state(&self) -> BTreeMap<String, TensorData> {
        self.average
            .iter()
            .map(|(path, value)| (path.clone(), value.to_data()))
            .collect()
    }

    /// Takes over averages made by [`state`](Self::state).
    pub fn load(&mut self, state: BTreeMap<String, TensorData>, device: &B::Device) {
        let tensor = |data: TensorData| {
            let dtype = data.dtype;
            Tensor::from_data(data, (device, dtype))
        };
        self.average = state
            .into_iter()
            .map(|(path, data)| (path, tensor(data)))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{read_parameters, write_parameters};
    use crate::toy::{Towers, TrainBackend};

    #[test]
    fn the_average_follows_the_weights() {
        let model = Towers::<TrainBackend>::new(0, &Default::default());
        let with_scale = |value: f32| {
            let data = [("logit_scale".to_string(), TensorData::from([value]))];
            write_parameters(model.clone(), data.into())
        };
        let mut ema = Ema::<TrainBackend>::new(0.75);
        ema.update(&with_scale(1.0));
        ema.update(&with_scale(2.0));
        ema.update(&with_scale(2.0));
        let averaged = ema.apply(model.clone()).logit_scale.val().into_scalar();
        assert_eq!(averaged, 1.4375); // 1 → 1.25 → 1.4375
    }

    #[test]
    fn a_long_average_of_constant_weights_stays_at_them() {
        let model = Towers::<TrainBackend>::new(0, &Default::default());
        let data = [("logit_scale".to_string(), TensorData::from([4.6f32]))];
        let model = write_parameters(model, data.into());
        let mut ema = Ema::<TrainBackend>::new(0.99999);
        (0..3000).for_each(|_| ema.update(&model));
        let averaged = ema.apply(model).logit_scale.val().into_scalar();
        assert_eq!(averaged, 4.6); // f32(0.99999) + f32(1 − 0.99999) is not 1 and drifts by 1e-3
    }

    #[test]
    fn a_restored_average_gives_the_same_model() {
        let device = Default::default();
        let mut ema = Ema::<TrainBackend>::new(0.9);
        ema.update(&Towers::new(0, &device));
        ema.update(&Towers::new(1, &device));
        let mut restored = Ema::<TrainBackend>::new(0.9);
        restored.load(ema.state(), &device);
        let model = Towers::<TrainBackend>::new(2, &device);
        let (a, b) = (ema.apply(model.clone()), restored.apply(model));
        assert_eq!(read_parameters(&a), read_parameters(&b));
    }
}
