//! Weights of a model as flat tensors, and back.

use crate::parameters::ParamPath;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;

/// Calls `visit` with path, id and `[elements]` of every parameter that is trained.
pub fn visit_trained<B: AutodiffBackend, M: Module<B>>(
    model: &M,
    visit: impl FnMut(&str, ParamId, Tensor<B::InnerBackend, 1>),
) {
    struct Visit<F>(ParamPath, F);
    impl<B, F> ModuleVisitor<B> for Visit<F>
    where
        B: AutodiffBackend,
        F: FnMut(&str, ParamId, Tensor<B::InnerBackend, 1>),
    {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let value = param.val();
            if value.is_require_grad() {
                let length = value.shape().num_elements();
                (self.1)(&self.0.join(), param.id, value.inner().reshape([length]));
            }
        }
    }
    model.visit(&mut Visit(ParamPath::default(), visit));
}

/// Replaces every trained parameter by what `change` makes of path, id and `[elements]`. The weights are handed over:
/// those whose only owner is the model can be overwritten in place.
pub fn map_trained<B: AutodiffBackend, M: Module<B>>(
    model: M,
    change: impl FnMut(&str, ParamId, Tensor<B::InnerBackend, 1>) -> Tensor<B::InnerBackend, 1>,
) -> M {
    struct Map<F>(ParamPath, F);
    impl<B, F> ModuleMapper<B> for Map<F>
    where
        B: AutodiffBackend,
        F: FnMut(&str, ParamId, Tensor<B::InnerBackend, 1>) -> Tensor<B::InnerBackend, 1>,
    {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            if !param.val().is_require_grad() {
                return param;
            }
            let (id, tensor, mapper) = param.consume();
            let shape = tensor.shape();
            let flat = tensor.inner().reshape([shape.num_elements()]);
            let new = (self.1)(&self.0.join(), id, flat).reshape(shape);
            Param::from_mapped_value(id, Tensor::from_inner(new).require_grad(), mapper)
        }
    }
    model.map(&mut Map(ParamPath::default(), change))
}
