//! Gradients by parameter, flat: sums, norms and communication are loops.

use burn::module::{AutodiffModule, ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use burn::tensor::{DType, backend::AutodiffBackend};
use std::collections::BTreeMap;

/// Gradients keyed by the id of their parameter, each `[elements]`.
///
/// Ids are hashes of paths (see [`crate::parameters::stable_ids`]), so the order is the same in every process.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend>(BTreeMap<ParamId, Tensor<B, 1>>);

impl<B: Backend> Default for Gradients<B> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<I: Backend> Gradients<I> {
    /// Takes the gradients of a module's parameters out of those of a graph.
    pub fn take<B, M>(from: &mut B::Gradients, module: &M) -> Self
    where
        B: AutodiffBackend<InnerBackend = I>,
        M: AutodiffModule<B>,
    {
        let mut take = Take::<B> {
            from,
            found: Self::default(),
        };
        module.visit(&mut take);
        take.found
    }

    /// Number of parameters that have one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The gradient of a parameter.
    pub fn get(&self, id: ParamId) -> Option<&Tensor<I, 1>> {
        self.0.get(&id)
    }

    /// Takes the gradient of a parameter out.
    pub fn remove(&mut self, id: ParamId) -> Option<Tensor<I, 1>> {
        self.0.remove(&id)
    }

    /// Sets the gradient of a parameter.
    pub fn insert(&mut self, id: ParamId, gradient: Tensor<I, 1>) {
        self.0.insert(id, gradient);
    }

    /// Adds those of `part`.
    pub fn add(&mut self, part: Self) {
        for (id, new) in part.0 {
            let sum = match self.0.remove(&id) {
                Some(old) => old + new,
                None => new,
            };
            self.0.insert(id, sum);
        }
    }

    /// Global L2 norm, in f32 on the device, `[1]`; `None` when there is no gradient.
    pub fn norm(&self) -> Option<Tensor<I, 1>> {
        if let Some(norm) = kernels::norm(self.0.values()) {
            return Some(norm);
        }
        let squares = self.0.values();
        let squares = squares.map(|gradient| gradient.clone().cast(DType::F32).square().sum());
        squares.reduce(|a, b| a + b).map(Tensor::sqrt)
    }

    /// Scales all so that their global norm is at most `max`, as PyTorch's `clip_grad_norm_`. Nothing is read from the
    /// device.
    ///
    /// # Shapes
    ///
    /// - norm: `[1]`, from [`norm`](Self::norm)
    pub fn clip(&mut self, norm: Tensor<I, 1>, max: f64) {
        let factor = (norm + 1e-6).recip().mul_scalar(max).clamp_max(1.0);
        // Taken out and not cloned: what nobody else holds can be scaled where it lies.
        let (ids, gradients): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0).into_iter().unzip();
        let scaled = kernels::scale(gradients, &factor).unwrap_or_else(|gradients| {
            let gradients = gradients.into_iter();
            let scaled = gradients.map(|gradient| {
                let factor = factor.clone().cast(gradient.dtype());
                gradient * factor
            });
            scaled.collect()
        });
        self.0 = ids.into_iter().zip(scaled).collect();
    }
}

struct Take<'a, B: AutodiffBackend> {
    from: &'a mut B::Gradients,
    found: Gradients<B::InnerBackend>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Take<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = param.val().grad_remove(self.from) {
            let length = gradient.shape().num_elements();
            self.found.insert(param.id, gradient.reshape([length]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;

    fn tensor(values: &[f32]) -> Tensor<Flex, 1> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), [values.len()]),
            &Default::default(),
        )
    }

    /// Gradients of 3 for one parameter and of 4 for an element of another: norm 5.
    fn three_and_four() -> Gradients<Flex> {
        let mut gradients = Gradients::default();
        gradients.insert(ParamId::from(1), tensor(&[3.0]));
        gradients.insert(ParamId::from(2), tensor(&[0.0, 4.0, 0.0]));
        gradients
    }

    fn values(gradients: &Gradients<Flex>, id: u64) -> Vec<f32> {
        let gradient = gradients.get(ParamId::from(id)).unwrap().clone();
        gradient.into_data().to_vec().unwrap()
    }

    #[test]
    fn the_norm_is_over_all_parameters_together() {
        assert_eq!(three_and_four().norm().unwrap().into_scalar(), 5.0);
        assert!(Gradients::<Flex>::default().norm().is_none());
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let mut gradients = three_and_four();
        let norm = gradients.norm().unwrap();
        gradients.clip(norm, 1.0);
        assert!((values(&gradients, 1)[0] - 0.6).abs() < 1e-6);
        assert!((values(&gradients, 2)[1] - 0.8).abs() < 1e-6);
    }

    #[test]
    fn a_norm_below_the_limit_changes_nothing() {
        let mut gradients = three_and_four();
        let norm = gradients.norm().unwrap();
        gradients.clip(norm, 6.0);
        assert_eq!(values(&gradients, 1), [3.0]);
        assert_eq!(values(&gradients, 2), [0.0, 4.0, 0.0]);
    }

    #[test]
    fn adding_sums_common_parameters_and_takes_over_the_rest() {
        let mut total = three_and_four();
        let mut part = three_and_four();
        part.insert(ParamId::from(3), tensor(&[7.0]));
        total.add(part);
        assert_eq!(total.len(), 3);
        assert_eq!(values(&total, 2), [0.0, 8.0, 0.0]);
        assert_eq!(values(&total, 3), [7.0]);
    }
}
