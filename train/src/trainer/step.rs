//! Gradients of one optimizer step: direct, through the gradient cache, and across replicas.
//!
//! All three are one procedure, cut at the embeddings (Gao et al., 2021, "Scaling Deep Contrastive Learning
//! Batch Size under Memory Limited Setup"):
//!
//! 1. embed every micro-batch; without a graph if there are several;
//! 2. gather the embeddings of all replicas, and take the loss and its gradient with respect to the
//!    embeddings and to the parameters that the loss reads itself;
//! 3. take each micro-batch backwards from its rows of that gradient, and sum over micro-batches and
//!    replicas.
//!
//! The logit scale gets its gradient in step 2 once, and not once per micro-batch.

use super::alone::alone;
use super::collective::{Collective, World};
use super::pass::Pass;
use super::remainder;
use super::replay::{connected, dot};
use super::task::{Embedded, Embeddings, MeanLoss, Task};
use crate::error::{BoxError, Result, TrainError};
use crate::optimizer::gradients::Gradients;
use crate::parameters::parameters;
use burn::module::{Module, ModuleMapper, Param};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use std::borrow::Cow;

/// How gradients are computed.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepOptions {
    /// Whether blocks are replayed.
    pub replay: bool,
    /// Whether each replica answers for its own rows of the loss only, where the task can ([`Task::by_rows`]).
    pub local_loss: bool,
    /// Whether batches are refused whose gradients the backend would get wrong.
    pub guarded: bool,
    /// Seed of random draws inside the model.
    pub seed: u64,
}

/// Gradients of a step and the values to report, all still on the device.
pub struct Step<B: Backend> {
    /// Gradients of all trainable parameters that took part.
    pub gradients: Gradients<B>,
    /// The loss of the whole batch, `[1]`.
    pub loss: Tensor<B, 1>,
    /// Its parts by name, each `[1]`.
    pub parts: Vec<(String, Tensor<B, 1>)>,
}

/// Loss and gradients of the union of `batches` over all replicas.
///
/// # Errors
///
/// What the task meets, on this replica or another; when micro-batches give other embeddings than the first.
///
/// # Panics
///
/// When `batches` is empty.
pub fn step<B: AutodiffBackend, T: Task<B>>(
    task: &T,
    model: &T::Model,
    batches: &[T::Batch],
    options: StepOptions,
    collective: &dyn Collective<B::InnerBackend>,
    device: &B::Device,
) -> Result<Step<B::InnerBackend>> {
    assert!(!batches.is_empty(), "a step needs at least one batch");
    let seed = |index: usize| {
        let draw = (index * collective.size() + collective.rank()) as u64;
        options
            .seed
            .wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    let with_graph = |index: usize| {
        let _alone = alone();
        let mut pass = match options.replay {
            true => Pass::replayed(device, seed(index)),
            false => Pass::plain(device, seed(index)),
        }
        .guarded(options.guarded);
        let model = model.clone().map(&mut FreshLeaves);
        let embedded = task.embed(&model, &batches[index], &mut pass);
        pass.check()?;
        embedded.map(|embedded| (model, embedded, pass))
    };

    // 1. A single batch keeps its graph; of several, the graphs are made again one by one.
    let embed = || {
        let (mut kept, mut values) = (None, Values::default());
        if batches.len() == 1 {
            let graph = with_graph(0)?;
            values.push(&graph.1)?;
            kept = Some(graph);
        } else {
            let untracked = model.clone().no_grad();
            for (index, batch) in batches.iter().enumerate() {
                let mut pass = Pass::plain(device, seed(index)).guarded(options.guarded);
                values.push(&task.embed(&untracked, batch, &mut pass)?)?;
            }
        }
        Ok((kept, values))
    };
    let (mut kept, values) = together(embed().map_err(failed("embedding a batch")), collective)?;

    // 2. Loss of all embeddings, and of the means.
    if options.guarded {
        remainder::check(values.rows() * collective.size(), 1)?;
    }
    let local = options.local_loss && task.by_rows() && collective.size() > 1;
    let mut whole = WholeBatch::new(task, model, values, local, collective, device)?;

    // 3. Back through each micro-batch.
    let mut back = || {
        let mut gradients = Gradients::default();
        for index in 0..batches.len() {
            let graph = match kept.take() {
                Some(graph) => graph,
                None => with_graph(index)?,
            };
            let (leaves, embedded, pass) = graph;
            let _alone = alone();
            let surrogate = whole.surrogate(index, embedded, device);
            gradients.add(pass.into_replay().backward(surrogate, &leaves));
        }
        Ok(gradients)
    };
    let gradients = back().map_err(failed("taking a batch backwards"));
    let mut gradients = together(gradients, collective)?;
    // Where every replica has taken the loss of the whole batch, the first one speaks for all.
    if whole.local || collective.rank() == 0 {
        gradients.add(whole.gradients);
    }
    Ok(Step {
        gradients: sum_over_replicas(gradients, model, collective, device)?,
        loss: whole.loss,
        parts: whole.parts,
    })
}

/// What a replica has made, if no other one failed.
///
/// # Errors
///
/// Its own, or with what another replica says.
pub fn together<V>(made: Result<V>, collective: &(impl World + ?Sized)) -> Result<V> {
    let mine = made.as_ref().err().map(ToString::to_string);
    let heard = collective.hear(mine.as_deref());
    let made = made?;
    match heard? {
        None => Ok(made),
        Some((rank, message)) => Err(TrainError::OtherReplica { rank, message }),
    }
}

fn failed(what: &'static str) -> impl FnOnce(BoxError) -> TrainError {
    move |source| TrainError::Task { what, source }
}

/// The sum of the gradients of all replicas; one that has none for a parameter counts as zero.
fn sum_over_replicas<B: AutodiffBackend, M: Module<B>>(
    mut mine: Gradients<B::InnerBackend>,
    model: &M,
    collective: &dyn Collective<B::InnerBackend>,
    device: &B::Device,
) -> Result<Gradients<B::InnerBackend>> {
    if collective.size() == 1 {
        return Ok(mine);
    }
    let trained: Vec<_> = parameters(model)
        .into_iter()
        .filter(|p| p.trainable)
        .collect();
    let there = trained
        .iter()
        .map(|p| mine.get(p.id).is_some() as u8 as f32);
    let there = TensorData::new(there.collect::<Vec<_>>(), [trained.len()]);
    let mut values = vec![Tensor::from_data(there, device)];
    values.extend(trained.iter().map(|p| {
        let absent = || Tensor::zeros([p.len()], device);
        mine.remove(p.id).unwrap_or_else(absent)
    }));
    let mut sums = collective.sum(values)?.into_iter();
    let there = sums.next().expect("one sum for each value").into_data();
    let mut total = Gradients::default();
    for ((parameter, sum), there) in trained.iter().zip(sums).zip(there.iter::<f32>()) {
        if there > 0.0 {
            total.insert(parameter.id, sum);
        }
    }
    Ok(total)
}

/// Embeddings of one name: its rows of each micro-batch.
type Named<B> = (Cow<'static, str>, Vec<Tensor<B, 2>>);

/// Values of all micro-batches of this replica.
struct Values<B: Backend> {
    batches: usize,
    embeddings: Vec<Named<B>>,
    /// Per mean loss: name, weight, sum and count so far.
    means: Vec<(&'static str, f64, Tensor<B, 1>, usize)>,
}

impl<B: Backend> Default for Values<B> {
    fn default() -> Self {
        Self {
            batches: 0,
            embeddings: Vec::new(),
            means: Vec::new(),
        }
    }
}

impl<I: Backend> Values<I> {
    /// Embeddings of each name.
    fn rows(&self) -> usize {
        let first = self.embeddings.first();
        first.map_or(0, |(_, parts)| {
            parts.iter().map(|part| part.dims()[0]).sum()
        })
    }

    fn push<B>(&mut self, embedded: &Embedded<B>) -> Result<(), BoxError>
    where
        B: AutodiffBackend<InnerBackend = I>,
    {
        let found = embedded.embeddings.named();
        if self.batches == 0 {
            let names = found.iter().map(|(name, _)| (name.clone(), Vec::new()));
            self.embeddings = names.collect();
        }
        let names = |named: Vec<&str>| named.join(", ");
        let first = names(self.embeddings.iter().map(|(name, _)| &**name).collect());
        let now = names(found.iter().map(|(name, _)| &**name).collect());
        if first != now {
            return Err(format!(
                "micro-batch {} gives the embeddings [{now}], the first one gave [{first}]",
                self.batches + 1
            )
            .into());
        }
        self.batches += 1;
        for ((_, all), (_, rows)) in self.embeddings.iter_mut().zip(found) {
            all.push(rows.clone().inner());
        }
        let means = embedded.means.iter().enumerate();
        for (
            index,
            MeanLoss {
                name,
                sum,
                count,
                weight,
            },
        ) in means
        {
            let sum = sum.clone().inner();
            match self.means.get_mut(index) {
                None => self.means.push((name, *weight, sum, *count)),
                Some(mean) => {
                    mean.2 = mean.2.clone() + sum;
                    mean.3 += count;
                }
            }
        }
        Ok(())
    }
}

/// What is known once the loss of the whole batch has been taken.
struct WholeBatch<B: AutodiffBackend> {
    loss: Tensor<B::InnerBackend, 1>,
    parts: Vec<(String, Tensor<B::InnerBackend, 1>)>,
    /// Whether this replica has taken its own rows of the loss only.
    local: bool,
    /// Gradients of the parameters that the loss reads itself.
    gradients: Gradients<B::InnerBackend>,
    /// Per kind of embedding, per micro-batch of this replica: gradient of the loss.
    up: Vec<Vec<Option<Tensor<B::InnerBackend, 2>>>>,
    /// Per mean loss: number of summands over all replicas.
    counts: Vec<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> WholeBatch<B> {
    fn new<T: Task<B>>(
        task: &T,
        model: &T::Model,
        values: Values<B::InnerBackend>,
        local: bool,
        collective: &dyn Collective<B::InnerBackend>,
        device: &B::Device,
    ) -> Result<Self> {
        let mut whole = Self {
            loss: Tensor::zeros([1], device),
            parts: Vec::new(),
            local,
            gradients: Gradients::default(),
            up: Vec::new(),
            counts: Vec::new(),
        };
        if !values.embeddings.is_empty() {
            let rows = values.rows();
            whole.contrast(task, model, values.embeddings, rows, collective)?;
        }
        for (name, weight, sum, count) in values.means {
            let count = Tensor::full([1], count as f64, device);
            let sums = collective.sum(vec![sum, count])?;
            let [sum, count] = sums.try_into().expect("one sum for each value");
            let count = count.clamp_min(1.0); // an empty batch has loss 0, not 0 / 0
            let mean = sum / count.clone();
            whole.loss = whole.loss + mean.clone() * weight;
            whole.parts.push((name.to_string(), mean));
            whole.counts.push(count);
        }
        Ok(whole)
    }

    fn contrast<T: Task<B>>(
        &mut self,
        task: &T,
        model: &T::Model,
        embeddings: Vec<Named<B::InnerBackend>>,
        rows: usize,
        collective: &dyn Collective<B::InnerBackend>,
    ) -> Result<()> {
        let mut named = Embeddings::default();
        if self.local {
            named.rows = Some(collective.rank() * rows..(collective.rank() + 1) * rows);
        }
        let mut gathered = Vec::with_capacity(embeddings.len());
        for (name, parts) in embeddings {
            let rows: Vec<usize> = parts.iter().map(|part| part.dims()[0]).collect();
            gathered.push((name, rows, collective.gather_rows(Tensor::cat(parts, 0))?));
        }
        let taken = || {
            let _alone = alone();
            let mut leaves = Vec::with_capacity(gathered.len());
            for (name, rows, all) in gathered {
                let leaf = Tensor::<B, 2>::from_inner(all).require_grad();
                named.push(name, leaf.clone());
                leaves.push((leaf, rows));
            }
            let model = model.clone().map(&mut FreshLeaves);
            let losses = task.loss(&model, named)?;
            self.loss = losses.total.clone().inner();
            self.parts = losses
                .parts
                .into_iter()
                .map(|(name, part)| (name, part.inner()))
                .collect();
            let mut grads = losses.total.backward();
            self.gradients = Gradients::take(&mut grads, &model);
            let ups = leaves.into_iter();
            let ups = ups.map(|(leaf, rows)| (leaf.grad_remove(&mut grads), rows));
            Ok(ups.collect::<Vec<_>>())
        };
        // The lock is given back before the replicas meet again.
        let ups = together(taken().map_err(failed("taking the loss")), collective)?;
        for (up, rows) in ups {
            let (up, mut start) = match self.local {
                // What all rows of the loss make of this replica's embeddings.
                true => (up.map(|up| collective.scatter_rows(up)).transpose()?, 0),
                false => (up, collective.rank() * rows.iter().sum::<usize>()),
            };
            let mut slice = |n: usize| {
                let part = up.clone().map(|up| up.narrow(0, start, n));
                start += n;
                part
            };
            self.up.push(rows.into_iter().map(&mut slice).collect());
        }
        if self.local {
            let mine = std::iter::once(self.loss.clone());
            let mine = mine.chain(self.parts.iter().map(|(_, part)| part.clone()));
            let mut sums = collective.sum(mine.collect())?.into_iter();
            let mut next = || sums.next().expect("one sum for each value");
            self.loss = next();
            self.parts.iter_mut().for_each(|(_, part)| *part = next());
        }
        Ok(())
    }

    /// A scalar whose gradient is this micro-batch's share of the gradient of the whole loss.
    fn surrogate(
        &mut self,
        index: usize,
        embedded: Embedded<B>,
        device: &B::Device,
    ) -> Tensor<B, 1> {
        let mut sum = connected(Tensor::zeros([1], device));
        let embeddings = embedded.embeddings.into_named();
        for ((_, embedding), up) in embeddings.into_iter().zip(&mut self.up) {
            if let Some(up) = up[index].take() {
                sum = sum + dot(embedding, up);
            }
        }
        for (mean, count) in embedded.means.into_iter().zip(&self.counts) {
            sum = sum + mean.sum / Tensor::from_inner(count.clone()) * mean.weight;
        }
        sum
    }
}

/// Makes the parameters new leaves of the graph, with the same values and ids.
///
/// burn forgets a leaf once it has been taken backwards. Graphs that are built on it afterwards work for one
/// backward pass, but a replayed micro-batch needs several, and of those the later ones would lose gradients
/// without a word (burn-autodiff 0.21: `GraphCleaner` drops the leaf from the locator, so `free_unavailable_nodes` of
/// the next graph takes all that depends on it for dead).
pub(crate) struct FreshLeaves;

impl<B: AutodiffBackend> ModuleMapper<B> for FreshLeaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|value| {
            let trainable = value.is_require_grad();
            Tensor::from_inner(value.inner()).set_require_grad(trainable)
        })
    }
}

#[cfg(test)]
mod tests;
