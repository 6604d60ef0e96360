//! The optimizer's moments, spread over the replicas (ZeRO-1; Rajbhandari et al., 2020, arXiv 1910.02054).
//!
//! Each parameter has one owner, which keeps its moments and makes its update; the others take over the result. So every
//! update is computed once, by the same operations as without, and is the same bit for bit.

use super::collective::{Collective, World};
use crate::checkpoint::tensors;
use crate::error::{Result, TrainError};
use crate::optimizer::flat::{map_trained, visit_trained};
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
    /// Elements of the replica that has most.
    longest: usize,
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
        let longest = load.into_iter().max().unwrap_or(0);
        Self {
            rank,
            owners,
            longest,
        }
    }

    /// Whether this replica updates a parameter.
    pub fn is_own(&self, path: &str) -> bool {
        self.owners
            .get(path)
            .is_some_and(|(owner, _)| *owner == self.rank)
    }

    /// Gives the parameters that this replica has updated to the others, and takes over theirs.
    pub fn exchange<B: AutodiffBackend, M: Module<B>>(
        &self,
        model: M,
        collective: &dyn Collective<B::InnerBackend>,
    ) -> Result<M> {
        let mut mine = Vec::with_capacity(self.longest);
        let mut unreadable = None;
        visit_trained::<B, M>(&model, |path, _, weights| {
            if self.is_own(path) {
                match weights.into_data().convert::<f32>().into_vec::<f32>() {
                    Ok(values) => mine.extend(values),
                    Err(error) => unreadable = Some(format!("{error:?}")),
                }
            }
        });
        if let Some(reason) = unreadable {
            return Err(TrainError::Task {
                what: "reading weights for the other replicas",
                source: reason.into(),
            });
        }
        mine.resize(self.longest, 0.0);
        let all = collective.all_gather(&mine)?;
        let mut next: Vec<usize> = (0..collective.size()).map(|r| r * self.longest).collect();
        // In the order in which each owner has visited its own.
        Ok(map_trained::<B, M>(model, |path, _, weights| {
            let Some(&(owner, length)) = self.owners.get(path) else {
                return weights;
            };
            let start = next[owner];
            next[owner] += length;
            if owner == self.rank {
                return weights;
            }
            let data = TensorData::new(all[start..start + length].to_vec(), [length]);
            Tensor::from_data(data, (&weights.device(), weights.dtype()))
        }))
    }

    /// The state of all on the first replica; nothing elsewhere.
    pub fn collect(
        &self,
        mine: BTreeMap<String, TensorData>,
        world: &(impl World + ?Sized),
    ) -> Result<BTreeMap<String, TensorData>> {
        let refused = |source: String| TrainError::Task {
            what: "passing on the optimizer's state",
            source: source.into(),
        };
        let bytes = tensors::to_bytes(&mine).map_err(refused)?;
        let mut all = BTreeMap::new();
        for part in world.collect(&bytes)? {
            all.extend(tensors::of_bytes(&part).map_err(refused)?);
        }
        Ok(all)
    }
}
