//! Weights of a model as flat tensors, and back.

use crate::parameters::ParamPath;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use std::collections::VecDeque;

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

/// A trained parameter that is out of its model.
pub struct Trained<B: Backend> {
    /// Its name, dotted.
    pub path: String,
    /// Its id.
    pub id: ParamId,
    /// `[elements]`.
    pub weights: Tensor<B, 1>,
}

/// Takes all trained parameters out of a model, and puts back what `change` makes of them, in the same order. As in
/// [`map_trained`] the weights are handed over.
pub fn change_trained<B: AutodiffBackend, M: Module<B>>(
    model: M,
    change: impl FnOnce(Vec<Trained<B::InnerBackend>>) -> Vec<Tensor<B::InnerBackend, 1>>,
) -> M {
    let mut out = TakeOut::<B> {
        path: ParamPath::default(),
        trained: Vec::new(),
        shapes: Vec::new(),
        seat: None,
    };
    let model = model.map(&mut out);
    let changed = change(out.trained);
    assert_eq!(changed.len(), out.shapes.len(), "one for each parameter");
    let changed = changed.into_iter().zip(out.shapes);
    model.map(&mut PutBack::<B>(changed.collect()))
}

struct TakeOut<B: AutodiffBackend> {
    path: ParamPath,
    trained: Vec<Trained<B::InnerBackend>>,
    shapes: Vec<Shape>,
    /// One number, which keeps the seats of all parameters in the meantime.
    seat: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleMapper<B> for TakeOut<B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if !param.val().is_require_grad() {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let (shape, device) = (tensor.shape(), tensor.device());
        let weights = tensor.inner().reshape([shape.num_elements()]);
        let path = self.path.join();
        self.trained.push(Trained { path, id, weights });
        self.shapes.push(shape);
        let seat = self.seat.get_or_insert_with(|| Tensor::zeros([1], &device));
        let seat = Tensor::from_inner(seat.clone().reshape([1; D]));
        Param::from_mapped_value(id, seat.require_grad(), mapper)
    }
}

struct PutBack<B: AutodiffBackend>(VecDeque<(Tensor<B::InnerBackend, 1>, Shape)>);

impl<B: AutodiffBackend> ModuleMapper<B> for PutBack<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if !param.val().is_require_grad() {
            return param;
        }
        let (weights, shape) = self.0.pop_front().expect("as many as were taken out");
        let (id, _, mapper) = param.consume();
        let weights = Tensor::from_inner(weights.reshape(shape));
        Param::from_mapped_value(id, weights.require_grad(), mapper)
    }
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
