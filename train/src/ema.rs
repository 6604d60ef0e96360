//! Exponential moving average of the weights.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::checkpoint::ParamPath;
use std::collections::BTreeMap;

/// Averaged weights of a model, keyed by path: `average ← decay · average + (1 − decay) · weights`.
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
        model.visit(&mut Take {
            path: ParamPath::default(),
            ema: self,
        });
    }

    /// A copy of the model with the averaged weights.
    pub fn apply<M: Module<B>>(&self, model: M) -> M {
        model.map(&mut Put {
            path: ParamPath::default(),
            average: &self.average,
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

struct Take<'a, B: AutodiffBackend> {
    path: ParamPath,
    ema: &'a mut Ema<B>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Take<'_, B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let (path, decay) = (self.path.join(), self.ema.decay);
        let weights = param.val().inner();
        let length = weights.shape().num_elements();
        let weights = weights.reshape([length]);
        let average = match self.ema.average.remove(&path) {
            None => weights,
            Some(average) => average * decay + weights * (1.0 - decay),
        };
        self.ema.average.insert(path, average);
    }
}

struct Put<'a, B: Backend> {
    path: ParamPath,
    average: &'a BTreeMap<String, Tensor<B, 1>>,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Put<'_, B::InnerBackend> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(average) = self.average.get(&self.path.join()) else {
            return param;
        };
        let (id, old, mapper) = param.consume();
        let new = Tensor::from_inner(average.clone().reshape(old.shape()));
        Param::from_mapped_value(id, new.set_require_grad(old.is_require_grad()), mapper)
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
