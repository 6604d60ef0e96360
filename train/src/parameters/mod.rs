//! The parameters of a model by dotted path, in a fixed order.
//!
//! Everything that must survive a restart (optimizer moments, averaged weights, group rules) is keyed by
//! these paths. Variants of enum modules are left out of them, so that a tower may become an enum
//! without breaking a checkpoint.

pub mod groups;
pub mod stable_ids;
mod statistics;

pub use clip::checkpoint::ParamPath;
pub use statistics::refuse_fresh_statistics;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::*;

use std::collections::BTreeMap;

/// One float parameter of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Names of the fields that lead to it, joined by dots.
    pub path: String,
    /// Its identity among gradients.
    pub id: ParamId,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether gradients are taken.
    pub trainable: bool,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Lists the parameters in the order in which the model declares them.
///
/// Lazily initialised parameters are drawn on the way, so that their random numbers come in this order
/// whatever is used first later on.
pub fn parameters<B: Backend, M: Module<B>>(model: &M) -> Vec<Parameter> {
    let mut list = List::default();
    model.visit(&mut list);
    list.found
}

/// Reads all parameters to the host.
pub fn read_parameters<B: Backend, M: Module<B>>(model: &M) -> BTreeMap<String, TensorData> {
    read_some(model, |_| true)
}

/// Reads the parameters of chosen paths to the host.
pub fn read_some<B: Backend, M: Module<B>>(
    model: &M,
    wanted: impl Fn(&str) -> bool,
) -> BTreeMap<String, TensorData> {
    let mut read = Read {
        path: ParamPath::default(),
        wanted,
        data: BTreeMap::new(),
    };
    model.visit(&mut read);
    read.data
}

/// Replaces the parameters that `data` names; the others stay. Shapes are the caller's to check.
pub fn write_parameters<B: Backend, M: Module<B>>(
    model: M,
    data: BTreeMap<String, TensorData>,
) -> M {
    model.map(&mut Write {
        path: ParamPath::default(),
        data,
    })
}

/// Sets which parameters take gradients.
pub fn set_trainable<B: Backend, M: Module<B>>(model: M, trainable: impl Fn(&str) -> bool) -> M {
    model.map(&mut SetTrainable {
        path: ParamPath::default(),
        trainable,
    })
}

#[derive(Default)]
struct List {
    path: ParamPath,
    found: Vec<Parameter>,
}

impl<B: Backend> ModuleVisitor<B> for List {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let value = param.val();
        self.found.push(Parameter {
            path: self.path.join(),
            id: param.id,
            shape: value.dims().to_vec(),
            trainable: value.is_require_grad(),
        });
    }
}

struct Read<F> {
    path: ParamPath,
    wanted: F,
    data: BTreeMap<String, TensorData>,
}

impl<B: Backend, F: Fn(&str) -> bool> ModuleVisitor<B> for Read<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let path = self.path.join();
        if (self.wanted)(&path) {
            self.data.insert(path, param.val().into_data());
        }
    }
}

struct Write {
    path: ParamPath,
    data: BTreeMap<String, TensorData>,
}

impl<B: Backend> ModuleMapper<B> for Write {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(data) = self.data.remove(&self.path.join()) else {
            return param;
        };
        let (id, old, mapper) = param.consume();
        let dtype = data.dtype;
        let new = Tensor::from_data(data, (&old.device(), dtype));
        Param::from_mapped_value(id, new.set_require_grad(old.is_require_grad()), mapper)
    }
}

struct SetTrainable<F> {
    path: ParamPath,
    trainable: F,
}

impl<B: Backend, F: Fn(&str) -> bool> ModuleMapper<B> for SetTrainable<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let trainable = (self.trainable)(&self.path.join());
        param.set_require_grad(trainable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Towers, TrainBackend};

    #[test]
    fn paths_follow_the_field_names_without_enum_variants() {
        let model = Towers::<TrainBackend>::new(0, &Default::default());
        let paths: Vec<String> = parameters(&model).into_iter().map(|p| p.path).collect();
        assert_eq!(paths[0], "visual.embed.weight");
        assert!(
            paths.contains(&"visual.transformer.resblocks.1.weight".to_string()),
            "{paths:?}"
        );
        assert_eq!(paths.last().unwrap(), "logit_scale");
    }

    #[test]
    fn what_was_read_is_what_is_written() {
        let device = Default::default();
        let source = read_parameters(&Towers::<TrainBackend>::new(0, &device));
        let target = Towers::<TrainBackend>::new(1, &device);
        assert_ne!(read_parameters(&target), source);
        let target = write_parameters(target, source.clone());
        assert_eq!(read_parameters(&target), source);
        assert!(parameters(&target).iter().all(|p| p.trainable));
    }

    #[test]
    fn frozen_parameters_are_listed_as_such() {
        let model = Towers::<TrainBackend>::new(0, &Default::default());
        let model = set_trainable(model, |path| !path.starts_with("text."));
        let listed = parameters(&model);
        let (frozen, trained): (Vec<_>, Vec<_>) = listed.into_iter().partition(|p| !p.trainable);
        assert_eq!(frozen.len(), 7);
        assert!(frozen.iter().all(|p| p.path.starts_with("text.")));
        assert!(trained.iter().all(|p| !p.path.starts_with("text.")));
    }
}
