//! How weights lie in memory.

use burn::module::{ModuleMapper, Param};
use burn::prelude::*;
use clip::checkpoint::ParamPath;

/// Turns the matrices of all projections around in memory: `[out, in]` as before to whoever looks, but stored input by
/// input.
///
/// A product `x @ weightᵀ` with few rows of `x`, which is what generation consists of, then reads the weights in the
/// order in which they lie. CPU backends would otherwise turn them around in every step. The embedding table keeps its
/// layout, because rows are taken from it.
pub(super) fn store_by_input<B: Backend, M: Module<B>>(model: M) -> M {
    Module::<B>::map(model, &mut ByInput(ParamPath::default()))
}

struct ByInput(ParamPath);

impl<B: Backend> ModuleMapper<B> for ByInput {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.0.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.0.join();
        if D != 2 || !(name.ends_with("_proj.weight") || name.starts_with("lm_head")) {
            return param;
        }
        let (id, weight, _) = param.consume();
        let tracked = weight.is_require_grad();
        // `detach` would keep the mark of a leaf.
        let turned = weight.set_require_grad(false).swap_dims(0, 1);
        let (len, shape) = (turned.shape().num_elements(), turned.dims());
        // A change of shape is what makes a backend write a view out.
        let turned: Tensor<B, 1> = turned.reshape([len]);
        let weight = turned.reshape(shape).swap_dims(0, 1);
        Param::initialized(id, weight.set_require_grad(tracked))
    }
}
