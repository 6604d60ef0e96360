//! State dict ↔ module, strictly: every parameter must be in the file, every tensor of the file in the module.

use super::state_dict::{HostTensor, StateDict};
use crate::error::{Error, Result};
use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::{DType, TensorData};
use std::collections::BTreeSet;
use std::path::Path;

/// The dotted path of the parameter that a visitor is at, without the variants of enums.
#[derive(Debug, Default)]
pub struct ParamPath(Vec<Option<String>>);

impl ParamPath {
    /// Call from `enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        // The variant of an enum module is a choice of ours; checkpoints know nothing of it.
        self.0
            .push((!container.starts_with("Enum:")).then(|| name.to_string()));
    }

    /// Call from `exit_module`.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// Names joined by dots.
    pub fn join(&self) -> String {
        self.0
            .iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(".")
    }
}

/// The parameters of a module as a state dict of f32 tensors, named by their paths. The values stay on the device
/// until they are read; they are those of now, whatever becomes of the module.
pub fn collect<B: Backend, M: Module<B>>(module: &M) -> StateDict {
    struct Collect(ParamPath, StateDict);
    impl<B: Backend> ModuleVisitor<B> for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let tensor = param.val();
            let shape = tensor.dims();
            let read = move || {
                let data = tensor.clone().into_data().convert::<f32>();
                data.into_vec().expect("converted to f32")
            };
            self.1
                .insert(self.0.join(), HostTensor::deferred(shape, read));
        }
    }
    let mut collect = Collect(ParamPath::default(), StateDict::default());
    Module::<B>::visit(module, &mut collect);
    collect.1
}

/// Replaces every parameter of a module by the tensor of its path, as f32.
///
/// `path` is named in messages.
///
/// # Errors
///
/// Lists what is missing, left over, or of another shape; the module is then given up, never half replaced.
pub fn apply<B: Backend, M: Module<B>>(
    module: M,
    dict: StateDict,
    path: &Path,
    device: &Device<B>,
) -> Result<M> {
    apply_as(module, dict, path, DType::F32, device)
}

/// [`apply`] with parameters of another float type, rounded to it.
///
/// # Errors
///
/// As [`apply`].
pub fn apply_as<B: Backend, M: Module<B>>(
    module: M,
    dict: StateDict,
    path: &Path,
    dtype: DType,
    device: &Device<B>,
) -> Result<M> {
    let mut apply = Apply {
        dtype,
        path: ParamPath::default(),
        unused: dict.names().map(str::to_string).collect(),
        dict,
        missing: Vec::new(),
        misshapen: Vec::new(),
        device: device.clone(),
    };
    let module = Module::<B>::map(module, &mut apply);
    let Apply {
        unused,
        dict,
        missing,
        misshapen,
        ..
    } = apply;
    let unused = unused.iter().map(|name| {
        let shape = dict.get(name).map(HostTensor::shape).unwrap_or_default();
        format!("{name} {shape:?}")
    });
    let report: Vec<_> = [
        list("missing", missing),
        list("not in the model", unused.collect()),
        list("of another shape", misshapen),
    ]
    .into_iter()
    .flatten()
    .collect();
    if report.is_empty() {
        return Ok(module);
    }
    Err(Error::Mismatch {
        path: path.into(),
        report: report.join("\n"),
    })
}

/// Up to this many names of a kind are spelled out.
const NAMED: usize = 12;

fn list(kind: &str, entries: Vec<String>) -> Option<String> {
    let count = entries.len();
    let mut line = format!("  {kind} ({count}): ");
    line += &entries
        .into_iter()
        .take(NAMED)
        .collect::<Vec<_>>()
        .join(", ");
    if count > NAMED {
        line += &format!(" and {} more", count - NAMED);
    }
    (count > 0).then_some(line)
}

struct Apply<B: Backend> {
    path: ParamPath,
    dict: StateDict,
    unused: BTreeSet<String>,
    missing: Vec<String>,
    misshapen: Vec<String>,
    dtype: DType,
    device: Device<B>,
}

impl<B: Backend> ModuleMapper<B> for Apply<B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (name, shape) = (self.path.join(), param.lazy_shape().to_vec());
        let Some(stored) = self.dict.get(&name) else {
            self.missing.push(format!("{name} {shape:?}"));
            return param;
        };
        self.unused.remove(&name);
        if stored.shape() != shape {
            self.misshapen.push(format!(
                "{name} {:?}, the model has {shape:?}",
                stored.shape()
            ));
            return param;
        }
        let data = TensorData::new(stored.values(), shape);
        let tensor = Tensor::from_data(data, (&self.device, self.dtype));
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}
