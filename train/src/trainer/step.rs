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
use super::collective::{Collective, Flags};
use super::pass::Pass;
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
        let draw = (index * collective.world() + collective.rank()) as u64;
        options
            .seed
            .wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    let with_graph = |index: usize| {
        let _alone = alone();
        let mut pass = match options.replay {
            true => Pass::replayed(device, seed(index)),
            false => Pass::plain(device, seed(index)),
        };
        let model = model.clone().map(&mut FreshLeaves);
        let embedded = task.embed(&model, &batches[index], &mut pass);
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
                let mut pass = Pass::plain(device, seed(index));
                values.push(&task.embed(&untracked, batch, &mut pass)?)?;
            }
        }
        Ok((kept, values))
    };
    let (mut kept, values) = together(embed().map_err(failed("embedding a batch")), collective)?;

    // 2. Loss of all embeddings, and of the means.
    let mut whole = WholeBatch::new(task, model, values, collective, device)?;

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
    let gradients = back().map_err(failed("embedding a batch"));
    let mut gradients = together(gradients, collective)?;
    // Every replica has taken the loss of the whole batch, so the first one speaks for all.
    if collective.rank() == 0 {
        gradients.add(whole.gradients);
    }
    Ok(Step {
        gradients: sum_over_replicas(gradients, model, collective, device)?,
        loss: whole.loss,
        parts: whole.parts,
    })
}

/// What a replica has made, if no other one failed.
pub(crate) fn together<B: Backend, V>(
    made: Result<V>,
    collective: &dyn Collective<B>,
) -> Result<V> {
    let agreed = collective.agree(Flags {
        failed: made.is_err(),
        stop: false,
    });
    let made = made?;
    match agreed?.failed {
        true => Err(TrainError::OtherReplica),
        false => Ok(made),
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
    if collective.world() == 1 {
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
    let mut sums = collective.all_reduce(values)?.into_iter();
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
        collective: &dyn Collective<B::InnerBackend>,
        device: &B::Device,
    ) -> Result<Self> {
        let mut whole = Self {
            loss: Tensor::zeros([1], device),
            parts: Vec::new(),
            gradients: Gradients::default(),
            up: Vec::new(),
            counts: Vec::new(),
        };
        if !values.embeddings.is_empty() {
            whole.contrast(task, model, values.embeddings, collective)?;
        }
        for (name, weight, sum, count) in values.means {
            let count = Tensor::full([1], count as f64, device);
            let sums = collective.all_reduce(vec![sum, count])?;
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
        collective: &dyn Collective<B::InnerBackend>,
    ) -> Result<()> {
        let mut named = Embeddings::default();
        let mut gathered = Vec::with_capacity(embeddings.len());
        for (name, parts) in embeddings {
            let rows: Vec<usize> = parts.iter().map(|part| part.dims()[0]).collect();
            gathered.push((name, rows, collective.all_gather(Tensor::cat(parts, 0))?));
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
            for (leaf, rows) in leaves {
                let up = leaf.grad_remove(&mut grads);
                let mut start = collective.rank() * rows.iter().sum::<usize>();
                let mut slice = |n: usize| {
                    let part = up.clone().map(|up| up.narrow(0, start, n));
                    start += n;
                    part
                };
                self.up.push(rows.into_iter().map(&mut slice).collect());
            }
            Ok(())
        };
        // The lock is given back before the replicas meet again.
        let taken = taken().map_err(failed("taking the loss"));
        together(taken, collective)
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
mod tests {
    use super::*;
    use crate::parameters::set_trainable;
    use crate::parameters::stable_ids::with_stable_ids;
    use crate::toy::{Towers, ToyBatch, ToyTask, ToyTrained, TrainBackend, flat_gradients};
    use crate::trainer::collective::{Single, Threads};
    use crate::trainer::task::Losses;
    use burn::backend::Flex;
    use std::cell::Cell;
    use std::sync::{Arc, mpsc};

    const OPTIONS: StepOptions = StepOptions {
        replay: false,
        seed: 1,
    };
    const REPLAY: StepOptions = StepOptions {
        replay: true,
        ..OPTIONS
    };

    type Measured = (f32, Vec<(String, Vec<f32>)>);

    /// Every kind of task, with the loss of all rows at once and in chunks of three.
    fn tasks() -> Vec<ToyTask> {
        let whole = ToyTask::all();
        let chunked = whole
            .clone()
            .into_iter()
            .map(|task| task.in_chunks(Some(3)));
        whole.iter().cloned().chain(chunked).collect()
    }

    fn model(task: &ToyTask) -> Towers<TrainBackend> {
        with_stable_ids(task.model(3, &Default::default())).unwrap()
    }

    /// Loss and gradients by the textbook: one graph over all micro-batches. Dropout draws for each micro-batch by its
    /// number.
    fn textbook(task: &ToyTask, batches: &[(u64, &ToyBatch)]) -> Measured {
        let _alone = alone();
        let (model, device) = (model(task), Default::default());
        let mut named: Vec<(Cow<'static, str>, Vec<_>)> = Vec::new();
        let mut means: Vec<MeanLoss<TrainBackend>> = Vec::new();
        for (number, batch) in batches {
            let seed = OPTIONS.seed + number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut pass = Pass::plain(&device, seed);
            let embedded = task.embed(&model, batch, &mut pass).unwrap();
            for (place, (name, rows)) in embedded.embeddings.into_named().into_iter().enumerate() {
                if named.len() <= place {
                    named.push((name, Vec::new()));
                }
                named[place].1.push(rows);
            }
            for (place, mean) in embedded.means.into_iter().enumerate() {
                match means.get_mut(place) {
                    None => means.push(mean),
                    Some(so_far) => {
                        so_far.sum = so_far.sum.clone() + mean.sum;
                        so_far.count += mean.count;
                    }
                }
            }
        }
        let mut embeddings = Embeddings::default();
        for (name, parts) in named {
            embeddings.push(name, Tensor::cat(parts, 0));
        }
        let plain = task.clone().in_chunks(None);
        let mut loss = plain.loss(&model, embeddings).unwrap().total;
        for mean in means {
            loss = loss + mean.sum * mean.weight / mean.count as f64;
        }
        let gradients = Gradients::take(&mut loss.backward(), &model);
        (loss.into_scalar(), flat_gradients(&model, &gradients))
    }

    fn ours(
        task: &ToyTask,
        batches: &[ToyBatch],
        options: StepOptions,
        collective: &dyn Collective<Flex>,
    ) -> Measured {
        let (model, device) = (model(task), Default::default());
        let step = step::<TrainBackend, _>(task, &model, batches, options, collective, &device);
        let step = step.unwrap();
        (
            step.loss.into_scalar(),
            flat_gradients(&model, &step.gradients),
        )
    }

    #[track_caller]
    fn assert_equal(got: &Measured, want: &Measured, what: &str) {
        let off = (got.0 - want.0).abs();
        assert!(off < 1e-6, "{what}: loss {} instead of {}", got.0, want.0);
        assert_eq!(got.1.len(), want.1.len(), "{what}");
        for ((path, a), (_, b)) in got.1.iter().zip(&want.1) {
            let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0, f32::max);
            // Chunks of rows add up in another order: a few units in the last place of gradients larger than 1.
            let largest = match what.contains("Some(3)") {
                true => b.iter().fold(1f32, |largest, b| largest.max(b.abs())),
                false => 1.0,
            };
            assert!(worst < 1e-6 * largest, "{what}: {path} differs by {worst}");
        }
    }

    #[test]
    fn one_batch_gives_the_textbook_gradient_replayed_or_not() {
        for task in tasks() {
            let batch = ToyBatch::random(8, 5);
            let want = textbook(&task, &[(0, &batch)]);
            for options in [OPTIONS, REPLAY] {
                let got = ours(&task, std::slice::from_ref(&batch), options, &Single);
                assert_equal(&got, &want, &format!("{task:?} {options:?}"));
            }
        }
    }

    #[test]
    fn the_gradient_cache_equals_one_graph_of_all_replayed_or_not() {
        for task in tasks() {
            let parts = ToyBatch::random(8, 5).split(&[2, 1, 5]);
            let numbered: Vec<_> = (0..).zip(&parts).collect();
            let want = textbook(&task, &numbered);
            for options in [OPTIONS, REPLAY] {
                let got = ours(&task, &parts, options, &Single);
                assert_equal(&got, &want, &format!("{task:?} {options:?}"));
            }
        }
    }

    #[test]
    fn two_replicas_give_the_gradient_of_one_device_with_the_whole_batch() {
        for task in tasks() {
            for options in [OPTIONS, REPLAY] {
                let halves = ToyBatch::random(8, 5).split(&[4, 4]);
                let parts: Vec<_> = halves.iter().map(|half| half.split(&[3, 1])).collect();
                // Micro-batches are numbered over all replicas, and gathered replica by replica.
                let numbered: Vec<_> = [(0, 0), (0, 1), (1, 0), (1, 1)]
                    .map(|(rank, place)| ((place * 2 + rank) as u64, &parts[rank][place]))
                    .into();
                let want = textbook(&task, &numbered);
                std::thread::scope(|scope| {
                    let replica = |(micro, comm): (Vec<ToyBatch>, Threads)| {
                        let task = task.clone();
                        scope.spawn(move || ours(&task, &micro, options, &comm))
                    };
                    let parts = parts.clone().into_iter();
                    let threads: Vec<_> = parts.zip(Threads::group(2)).map(replica).collect();
                    for thread in threads {
                        let got = thread.join().unwrap();
                        assert_equal(&got, &want, &format!("{task:?} {options:?}"));
                    }
                });
            }
        }
    }

    /// Graphs of four micro-batches, whose leaves have been in many merges, built while other threads go backwards.
    #[test]
    fn threads_take_nothing_from_each_others_graphs() {
        let task = ToyTask::all().remove(3);
        let parts = ToyBatch::random(8, 5).split(&[2, 1, 3, 2]);
        let numbered: Vec<_> = (0..).zip(&parts).collect();
        let want = textbook(&task, &numbered);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_equal(&textbook(&task, &numbered), &want, "textbook");
                        assert_equal(&ours(&task, &parts, REPLAY, &Single), &want, "ours");
                    }
                });
            }
        });
    }

    #[test]
    fn dropout_differs_between_micro_batches_and_seeds() {
        let task = ToyTask::all().remove(4);
        let batch = ToyBatch::random(4, 5);
        let loss = |number| textbook(&task, &[(number, &batch)]).0;
        assert_ne!(loss(0), loss(1));
        assert_eq!(loss(1), loss(1));
    }

    type Embed<'a> = Box<
        dyn Fn(
                &Towers<TrainBackend>,
                &ToyBatch,
                &mut Pass<TrainBackend>,
            ) -> Result<Embedded<TrainBackend>, BoxError>
            + 'a,
    >;

    /// The plain toy task with another way to embed.
    struct Embedding<'a>(Embed<'a>);

    impl Task<TrainBackend> for Embedding<'_> {
        type Model = Towers<TrainBackend>;
        type Batch = ToyBatch;
        type Trained = ToyTrained<Flex>;

        fn embed(
            &self,
            model: &Towers<TrainBackend>,
            batch: &ToyBatch,
            pass: &mut Pass<TrainBackend>,
        ) -> Result<Embedded<TrainBackend>, BoxError> {
            self.0(model, batch, pass)
        }

        fn loss(
            &self,
            model: &Towers<TrainBackend>,
            embeddings: Embeddings<TrainBackend>,
        ) -> Result<Losses<TrainBackend>, BoxError> {
            ToyTask::default().loss(model, embeddings)
        }

        fn samples(&self, batch: &ToyBatch) -> usize {
            batch.len()
        }

        fn trained(&self, model: Towers<Flex>) -> ToyTrained<Flex> {
            ToyTrained(model)
        }
    }

    #[test]
    fn micro_batches_with_other_embeddings_are_refused_by_name() {
        // A second text for large batches.
        let uneven = Embedding(Box::new(|model, batch, pass| {
            let embedded = ToyTask::default().embed(model, batch, pass)?;
            let more = Tensor::zeros([batch.len(), 2], pass.device());
            Ok(match batch.len() > 2 {
                true => embedded.with("more", more),
                false => embedded,
            })
        }));
        let model = model(&ToyTask::default());
        let batches = ToyBatch::random(8, 5).split(&[2, 6]);
        let device = Default::default();
        let error = step(&uneven, &model, &batches, OPTIONS, &Single, &device).err();
        let message = error.unwrap().to_string();
        assert!(
            message.contains("image, text, more") && message.contains("[image, text]"),
            "{message}"
        );
    }

    /// Handles of both replicas stay alive: none is told of the other's end by its absence.
    #[test]
    fn a_replica_that_fails_on_the_way_back_ends_the_others() {
        let group: Vec<Arc<Threads>> = Threads::group(2).into_iter().map(Arc::new).collect();
        let (told, ended) = mpsc::channel();
        for collective in group.clone() {
            let told = told.clone();
            std::thread::spawn(move || {
                let rank = Collective::<Flex>::rank(&*collective);
                let calls = Cell::new(0);
                // Both micro-batches are embedded once; the first one fails when its graph is made.
                let task = Embedding(Box::new(|model, batch, pass| {
                    calls.set(calls.get() + 1);
                    match (rank, calls.get()) {
                        (1, 3) => Err("the second time".into()),
                        _ => ToyTask::default().embed(model, batch, pass),
                    }
                }));
                let model = model(&ToyTask::default());
                let batches = ToyBatch::random(8, 5).split(&[4, 4]);
                let device = Default::default();
                let step = step(&task, &model, &batches, OPTIONS, &*collective, &device);
                told.send((rank, step.err().map(|error| error.to_string())))
            });
        }
        let patience = std::time::Duration::from_secs(60);
        let mut messages: Vec<_> = (0..2)
            .map(|_| ended.recv_timeout(patience).expect("no replica waits"))
            .collect();
        messages.sort();
        let message = |rank: usize| messages[rank].1.as_deref().unwrap();
        assert!(
            message(0).contains("another replica failed"),
            "{messages:?}"
        );
        assert!(message(1).contains("the second time"), "{messages:?}");
    }

    #[test]
    fn a_parameter_that_one_replica_uses_has_its_gradient_on_all() {
        let gradients = |rank: usize, collective: &dyn Collective<Flex>| {
            let reading = ToyTask::all().remove(3);
            let model = model(&reading);
            let task = Embedding(Box::new(|model, batch, pass| {
                if rank == 1 {
                    return reading.embed(model, batch, pass);
                }
                let nothing = MeanLoss {
                    name: "reader",
                    sum: Tensor::zeros([1], pass.device()),
                    count: 0,
                    weight: 0.5,
                };
                let without = Towers {
                    reader: None,
                    ..model.clone()
                };
                let embedded = ToyTask::default().embed(&without, batch, pass)?;
                Ok(embedded.with_mean(nothing))
            }));
            let batch = ToyBatch::random(8, 5).split(&[4, 4]).remove(rank);
            let device = Default::default();
            let step = step(&task, &model, &[batch], OPTIONS, collective, &device).unwrap();
            flat_gradients(&model, &step.gradients)
        };
        let group = Threads::group(2);
        let [first, second] = std::thread::scope(|scope| {
            let replica = |rank: usize| {
                let (collective, gradients) = (&group[rank], &gradients);
                scope.spawn(move || gradients(rank, collective))
            };
            let threads = [0, 1].map(replica);
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(first, second);
        let read = first.iter().filter(|(path, _)| path.starts_with("reader"));
        let read: Vec<&f32> = read.flat_map(|(_, values)| values).collect();
        assert!(read.iter().any(|value| **value != 0.0));
    }

    #[test]
    fn frozen_towers_take_no_gradient_with_or_without_replay() {
        let task = ToyTask::default();
        let device = Default::default();
        let model = set_trainable(model(&task), |path| !path.starts_with("visual"));
        for options in [OPTIONS, REPLAY] {
            let batches = ToyBatch::random(8, 5).split(&[4, 4]);
            let step = step::<TrainBackend, _>(&task, &model, &batches, options, &Single, &device);
            let gradients = flat_gradients(&model, &step.unwrap().gradients).into_iter();
            let paths = gradients.map(|(path, _)| path);
            assert!(paths.clone().all(|path| !path.starts_with("visual")));
            assert_eq!(paths.count(), 8);
        }
    }
}
