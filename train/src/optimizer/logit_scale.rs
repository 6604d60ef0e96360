//! The parameter `logit_scale` at the root of a model: read for the log, clamped after each update.

use crate::parameters::ParamPath;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;

/// Name of the parameter: the logarithm of the inverse temperature.
pub const LOGIT_SCALE: &str = "logit_scale";

/// Limits `logit_scale` to `[min, max]`. Models without one pass through.
pub fn clamp<B: AutodiffBackend, M: Module<B>>(model: M, [min, max]: [f64; 2]) -> M {
    model.map(&mut Clamp {
        path: ParamPath::default(),
        min,
        max,
    })
}

/// The factor that `logit_scale` is the logarithm of, still on the device: what open_clip logs.
pub fn read<B: AutodiffBackend, M: Module<B>>(model: &M) -> Option<Tensor<B::InnerBackend, 1>> {
    let mut read = Read::<B> {
        path: ParamPath::default(),
        found: None,
    };
    model.visit(&mut read);
    read.found
}

struct Clamp {
    path: ParamPath,
    min: f64,
    max: f64,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Clamp {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if self.path.join() != LOGIT_SCALE {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let tracked = tensor.is_require_grad();
        let clamped = Tensor::from_inner(tensor.inner().clamp(self.min, self.max));
        Param::from_mapped_value(id, clamped.set_require_grad(tracked), mapper)
    }
}

struct Read<B: AutodiffBackend> {
    path: ParamPath,
    found: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Read<B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.path.join() == LOGIT_SCALE {
            self.found = Some(param.val().inner().reshape([1]).exp());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Towers, TrainBackend};

    #[test]
    fn only_the_scale_is_clamped_and_it_stays_trainable() {
        let model = Towers::<TrainBackend>::new(0, &Default::default());
        let before = model.text.text_projection.val().into_data();
        let model = clamp(model, [0.0, 0.1]);
        assert!(model.logit_scale.val().is_require_grad());
        assert_eq!(model.logit_scale.val().into_scalar(), 0.1);
        let factor = read(&model).unwrap().into_scalar();
        assert!((factor - 0.1f32.exp()).abs() < 1e-6);
        assert_eq!(model.text.text_projection.val().into_data(), before);
    }
}
