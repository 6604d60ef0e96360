//! Parameter ids that are a function of the path.
//!
//! burn draws ids at random, which differ between replicas and between restarts. With ids taken from the
//! path, every process agrees on which gradient belongs where.

use super::ParamPath;
use super::parameters;
use crate::error::{Result, TrainError};
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::prelude::*;
use std::collections::HashMap;

/// Draws all lazily initialised parameters in declaration order and gives every parameter the id of its
/// path.
///
/// # Errors
///
/// When two parameters would share an id: the same path twice, or a collision of the 64-bit hash.
pub fn with_stable_ids<B: Backend, M: Module<B>>(model: M) -> Result<M> {
    let mut seen: HashMap<ParamId, String> = HashMap::new();
    for parameter in parameters(&model) {
        if let Some(other) = seen.insert(stable_id(&parameter.path), parameter.path.clone()) {
            return Err(TrainError::Config(format!(
                "parameters `{other}` and `{}` would share one id: rename a field of the model",
                parameter.path
            )));
        }
    }
    Ok(model.map(&mut Assign {
        path: ParamPath::default(),
    }))
}

/// Id of a path: its FNV-1a hash.
pub fn stable_id(path: &str) -> ParamId {
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ParamId::from(hash)
}

struct Assign {
    path: ParamPath,
}

impl<B: Backend> ModuleMapper<B> for Assign {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, mut param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.id = stable_id(&self.path.join());
        param
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Towers, TrainBackend};

    #[test]
    fn two_models_of_one_architecture_get_the_same_ids() {
        let device = Default::default();
        let ids = |seed| -> Vec<ParamId> {
            let model = with_stable_ids(Towers::<TrainBackend>::new(seed, &device)).unwrap();
            parameters(&model).into_iter().map(|p| p.id).collect()
        };
        assert_eq!(ids(0), ids(1));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(stable_id("").val(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_id("a").val(), 0xaf63_dc4c_8601_ec8c);
    }
}
