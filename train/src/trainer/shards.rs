//! The optimizer's moments, spread over the replicas (ZeRO-1; Rajbhandari et al., 2020, arXiv 1910.02054).
//!
//! Each parameter has one owner, which keeps its moments and makes its update; the others take over the result. So every
//! update is computed once, by the same operations as without, and is the same bit for bit.

use super::collective::{World, in_f32};
use crate::error::Result;
use crate::optimizer::flat::map_trained;
use crate::parameters::groups::Groups;
use burn::module::Module;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use std::collections::BTreeMap;

/// Which replica keeps the moments of which parameter.
#[derive(Clone, Debug)]
pub(super) struct Shards {
    rank: usize,
    /// Path → owner and number of elements.
    owners: BTreeMap<String, (usize, usize)>,
}

impl Shards {
    /// Whole parameters, the large ones first, each to whom has least so far.
    pub fn new(groups: &Groups, rank: usize, replicas: usize) -> Self {
        let trained = groups.0.iter().filter(|rule| rule.trainable);
        let mut sizes: Vec<_> = trained
            .map(|rule| (rule.parameter.len(), rule.parameter.path.clone()))
            .collect();
        sizes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut load = vec![0; replicas];
        let mut owners = BTreeMap::new();
        for (length, path) in sizes {
            let owner = (0..replicas).min_by_key(|r| load[*r]).unwrap_or(0);
            load[owner] += length;
            owners.insert(path, (owner, length));
        }
        Self { rank, owners }
    }

    /// Whether this replica updates a parameter.
    pub fn is_own(&self, path: &str) -> bool {
        self.owners
            .get(path)
            .is_some_and(|(owner, _)| *owner == self.rank)
    }

    /// Gives the parameters that this replica has updated to the others, and takes over theirs: one after the other, so
    /// that no second copy of the model is ever in memory.
    pub fn exchange<B: AutodiffBackend, M: Module<B>>(
        &self,
        model: M,
        world: &dyn World,
    ) -> Result<M> {
        let mut failed = None;
        let model = map_trained::<B, M>(model, |path, _, weights| {
            let Some(&(owner, length)) = self.owners.get(path) else {
                return weights;
            };
            if failed.is_some() {
                return weights;
            }
            let mine = (owner == self.rank).then(|| weights.clone());
            match self.pass_on(owner, length, mine.map(Tensor::into_data), world) {
                Ok(_) if owner == self.rank => weights,
                Ok(data) => Tensor::from_data(data, (&weights.device(), weights.dtype())),
                Err(error) => {
                    failed = Some(error);
                    weights
                }
            }
        });
        match failed {
            None => Ok(model),
            Some(error) => Err(error),
        }
    }

    /// The state of all on the first replica; nothing elsewhere.
    pub fn collect(
        &self,
        mut mine: BTreeMap<String, TensorData>,
        world: &dyn World,
    ) -> Result<BTreeMap<String, TensorData>> {
        let mut all = BTreeMap::new();
        for (path, &(owner, length)) in &self.owners {
            // Steps are counted far below what a float can tell apart; a parameter without moments has made none.
            let steps = mine.remove(&format!("step.{path}"));
            let mut steps = [steps
                .and_then(|data| data.iter::<f32>().next())
                .unwrap_or(0.0)];
            world.spread(owner, &mut steps)?;
            if steps == [0.0] {
                continue;
            }
            for name in ["exp_avg", "exp_avg_sq"] {
                let key = format!("{name}.{path}");
                let moment = self.pass_on(owner, length, mine.remove(&key), world)?;
                if self.rank == 0 {
                    all.insert(key, moment);
                }
            }
            if self.rank == 0 {
                all.insert(format!("step.{path}"), TensorData::from([steps[0] as i32]));
            }
        }
        Ok(all)
    }

    /// The values that the owner gives, `[length]`.
    fn pass_on(
        &self,
        owner: usize,
        length: usize,
        mine: Option<TensorData>,
        world: &dyn World,
    ) -> Result<TensorData> {
        let mut values = mine.map_or_else(|| Ok(vec![0.0; length]), in_f32)?;
        world.spread(owner, &mut values)?;
        Ok(TensorData::new(values, [length]))
    }
}
