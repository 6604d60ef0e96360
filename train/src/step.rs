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

use crate::collective::Collective;
use crate::gradients;
use crate::replay::{connected, dot};
use crate::task::{Embedded, MeanLoss, Pass, Task};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;

/// How gradients are computed.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepOptions {
    /// Whether blocks are replayed.
    pub replay: bool,
    /// Seed of random draws inside the model.
    pub seed: u64,
}

/// Gradients of a step and the values to report, all still on the device.
pub struct Step<B: AutodiffBackend> {
    /// Gradients of all trainable parameters that took part.
    pub gradients: GradientsParams,
    /// The loss of the whole batch, `[1]`.
    pub loss: Tensor<B::InnerBackend, 1>,
    /// Its parts by name, each `[1]`.
    pub parts: Vec<(String, Tensor<B::InnerBackend, 1>)>,
}

/// Loss and gradients of the union of `batches` over all replicas.
///
/// # Panics
///
/// When `batches` is empty, or when batches give different numbers of embeddings.
pub fn step<B: AutodiffBackend, T: Task<B>>(
    task: &T,
    model: &T::Model,
    batches: &[T::Batch],
    options: StepOptions,
    collective: &dyn Collective<B::InnerBackend>,
    device: &B::Device,
) -> Step<B> {
    assert!(!batches.is_empty(), "a step needs at least one batch");
    let seed = |index: usize| {
        let draw = (index * collective.world() + collective.rank()) as u64;
        options
            .seed
            .wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    let with_graph = |index: usize| {
        let mut pass = match options.replay {
            true => Pass::replayed(device, seed(index)),
            false => Pass::plain(device, seed(index)),
        };
        let model = model.clone().map(&mut FreshLeaves);
        let embedded = task.embed(&model, &batches[index], &mut pass);
        (model, embedded, pass)
    };

    // 1. A single batch keeps its graph; of several, the graphs are made again one by one.
    let mut kept = None;
    let mut values = Values::default();
    if batches.len() == 1 {
        let graph = with_graph(0);
        values.push(&graph.1);
        kept = Some(graph);
    } else {
        let untracked = model.clone().no_grad();
        for (index, batch) in batches.iter().enumerate() {
            let mut pass = Pass::plain(device, seed(index));
            values.push(&task.embed(&untracked, batch, &mut pass));
        }
    }

    // 2. Loss of all embeddings, and of the means.
    let mut whole = WholeBatch::new(task, model, values, collective, device);

    // 3. Back through each micro-batch.
    let mut towers = GradientsParams::new();
    for index in 0..batches.len() {
        let (leaves, embedded, pass) = kept.take().unwrap_or_else(|| with_graph(index));
        let surrogate = whole.surrogate(index, embedded, device);
        let part = pass.into_replay().backward(surrogate, &leaves);
        gradients::add(&mut towers, model, part);
    }
    if collective.world() > 1 {
        model.visit(&mut AllReduce::<B> {
            gradients: &mut towers,
            collective,
        });
    }
    gradients::add(&mut towers, model, whole.gradients);
    Step {
        gradients: towers,
        loss: whole.loss,
        parts: whole.parts,
    }
}

/// Values of all micro-batches of this replica.
struct Values<B: Backend> {
    /// Per kind of embedding, per micro-batch.
    embeddings: Vec<Vec<Tensor<B, 2>>>,
    /// Per mean loss: name, weight, sum and count so far.
    means: Vec<(&'static str, f64, Tensor<B, 1>, usize)>,
}

impl<B: Backend> Default for Values<B> {
    fn default() -> Self {
        Self {
            embeddings: Vec::new(),
            means: Vec::new(),
        }
    }
}

impl<I: Backend> Values<I> {
    fn push<B: AutodiffBackend<InnerBackend = I>>(&mut self, embedded: &Embedded<B>) {
        let kinds = embedded.embeddings.len();
        self.embeddings
            .resize_with(kinds.max(self.embeddings.len()), Vec::new);
        for (kind, embedding) in self.embeddings.iter_mut().zip(&embedded.embeddings) {
            kind.push(embedding.clone().inner());
        }
        for (
            index,
            MeanLoss {
                name,
                sum,
                count,
                weight,
            },
        ) in embedded.means.iter().enumerate()
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
    }
}

/// What is known once the loss of the whole batch has been taken.
struct WholeBatch<B: AutodiffBackend> {
    loss: Tensor<B::InnerBackend, 1>,
    parts: Vec<(String, Tensor<B::InnerBackend, 1>)>,
    /// Gradients of the parameters that the loss reads itself.
    gradients: GradientsParams,
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
    ) -> Self {
        let mut whole = Self {
            loss: Tensor::zeros([1], device),
            parts: Vec::new(),
            gradients: GradientsParams::new(),
            up: Vec::new(),
            counts: Vec::new(),
        };
        if !values.embeddings.is_empty() {
            whole.contrast(task, model, values.embeddings, collective);
        }
        for (name, weight, sum, count) in values.means {
            let sum = collective.all_reduce(sum);
            let count = collective.all_reduce(Tensor::full([1], count as f64, device));
            let count = count.clamp_min(1.0); // an empty batch has loss 0, not 0 / 0
            let mean = sum / count.clone();
            whole.loss = whole.loss + mean.clone() * weight;
            whole.parts.push((name.to_string(), mean));
            whole.counts.push(count);
        }
        whole
    }

    fn contrast<T: Task<B>>(
        &mut self,
        task: &T,
        model: &T::Model,
        embeddings: Vec<Vec<Tensor<B::InnerBackend, 2>>>,
        collective: &dyn Collective<B::InnerBackend>,
    ) {
        let rows: Vec<Vec<usize>> = embeddings
            .iter()
            .map(|kind| kind.iter().map(|e| e.dims()[0]).collect())
            .collect();
        let leaves: Vec<Tensor<B, 2>> = embeddings
            .into_iter()
            .map(|kind| collective.all_gather(Tensor::cat(kind, 0)))
            .map(|all| Tensor::from_inner(all).require_grad())
            .collect();
        let losses = task.loss(model, leaves.clone());
        self.loss = losses.total.clone().inner();
        self.parts = losses
            .parts
            .into_iter()
            .map(|(name, part)| (name, part.inner()))
            .collect();
        let mut grads = losses.total.backward();
        self.gradients = GradientsParams::from_module(&mut grads, model);
        for (leaf, rows) in leaves.iter().zip(rows) {
            let up = leaf.grad_remove(&mut grads);
            let mut start = collective.rank() * rows.iter().sum::<usize>();
            let mut slice = |n: usize| {
                let part = up.clone().map(|up| up.narrow(0, start, n));
                start += n;
                part
            };
            self.up.push(rows.into_iter().map(&mut slice).collect());
        }
    }

    /// A scalar whose gradient is this micro-batch's share of the gradient of the whole loss.
    fn surrogate(
        &mut self,
        index: usize,
        embedded: Embedded<B>,
        device: &B::Device,
    ) -> Tensor<B, 1> {
        let mut sum = connected(Tensor::zeros([1], device));
        for (embedding, up) in embedded.embeddings.into_iter().zip(&mut self.up) {
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
struct FreshLeaves;

impl<B: AutodiffBackend> ModuleMapper<B> for FreshLeaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|value| {
            let trainable = value.is_require_grad();
            Tensor::from_inner(value.inner()).set_require_grad(trainable)
        })
    }
}

struct AllReduce<'a, B: AutodiffBackend> {
    gradients: &'a mut GradientsParams,
    collective: &'a dyn Collective<B::InnerBackend>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for AllReduce<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) else {
            return;
        };
        let shape = gradient.shape();
        let flat = gradient.reshape([shape.num_elements()]);
        let sum: Tensor<_, D> = self.collective.all_reduce(flat).reshape(shape);
        self.gradients.register(param.id, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::{Single, Threads};
    use crate::stable_ids::with_stable_ids;
    use crate::toy::{Towers, ToyBatch, ToyTask, TrainBackend, flat_gradients};

    const OPTIONS: StepOptions = StepOptions {
        replay: false,
        seed: 1,
    };

    fn model() -> Towers<TrainBackend> {
        with_stable_ids(Towers::new(3, &Default::default())).unwrap()
    }

    /// Loss and gradients by the textbook: one graph over the whole batch.
    fn textbook(task: &ToyTask, batch: &ToyBatch) -> (f32, Vec<(String, Vec<f32>)>) {
        let (model, device) = (model(), Default::default());
        let embedded = task.embed(&model, batch, &mut Pass::plain(&device, 0));
        let mut loss = task.loss(&model, embedded.embeddings).total;
        for mean in embedded.means {
            loss = loss + mean.sum * mean.weight / mean.count as f64;
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        (loss.into_scalar(), flat_gradients(&model, &gradients))
    }

    fn ours(
        task: &ToyTask,
        batches: &[ToyBatch],
        options: StepOptions,
        collective: &dyn Collective<burn::backend::Flex>,
    ) -> (f32, Vec<(String, Vec<f32>)>) {
        let (model, device) = (model(), Default::default());
        let step = step::<TrainBackend, _>(task, &model, batches, options, collective, &device);
        (
            step.loss.into_scalar(),
            flat_gradients(&model, &step.gradients),
        )
    }

    fn assert_equal(got: &(f32, Vec<(String, Vec<f32>)>), want: &(f32, Vec<(String, Vec<f32>)>)) {
        assert!(
            (got.0 - want.0).abs() < 1e-6,
            "loss {} instead of {}",
            got.0,
            want.0
        );
        assert_eq!(got.1.len(), want.1.len());
        for ((path, a), (_, b)) in got.1.iter().zip(&want.1) {
            let worst = a
                .iter()
                .zip(b)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 1e-6, "{path} differs by {worst}");
        }
    }

    #[test]
    fn one_batch_gives_the_textbook_gradient() {
        for task in ToyTask::all() {
            let batch = ToyBatch::random(8, 5);
            let got = ours(&task, std::slice::from_ref(&batch), OPTIONS, &Single);
            assert_equal(&got, &textbook(&task, &batch));
        }
    }

    #[test]
    fn the_gradient_cache_equals_one_batch_of_all() {
        for task in ToyTask::all() {
            let batch = ToyBatch::random(8, 5);
            let got = ours(&task, &batch.split(&[2, 1, 5]), OPTIONS, &Single);
            assert_equal(&got, &textbook(&task, &batch));
        }
    }

    #[test]
    fn block_replay_equals_the_plain_graph() {
        let replay = StepOptions {
            replay: true,
            ..OPTIONS
        };
        for task in ToyTask::all() {
            let batch = ToyBatch::random(8, 5);
            let want = textbook(&task, &batch);
            assert_equal(
                &ours(&task, std::slice::from_ref(&batch), replay, &Single),
                &want,
            );
            assert_equal(&ours(&task, &batch.split(&[4, 4]), replay, &Single), &want);
        }
    }

    #[test]
    fn two_replicas_give_the_gradient_of_one_device_with_the_whole_batch() {
        for task in ToyTask::all() {
            let batch = ToyBatch::random(8, 5);
            let want = textbook(&task, &batch);
            let halves = batch.split(&[4, 4]);
            std::thread::scope(|scope| {
                let replica = |(half, comm): (&ToyBatch, Threads)| {
                    let (task, micro) = (task.clone(), half.split(&[3, 1]));
                    scope.spawn(move || ours(&task, &micro, OPTIONS, &comm))
                };
                let threads: Vec<_> = halves.iter().zip(Threads::group(2)).map(replica).collect();
                for thread in threads {
                    assert_equal(&thread.join().unwrap(), &want);
                }
            });
        }
    }

    #[test]
    fn frozen_towers_take_no_gradient_with_or_without_replay() {
        let task = ToyTask::default();
        let device = Default::default();
        let model = crate::parameters::set_trainable(model(), |path| !path.starts_with("visual"));
        for replay in [false, true] {
            let options = StepOptions { replay, ..OPTIONS };
            let batches = ToyBatch::random(8, 5).split(&[4, 4]);
            let step = step::<TrainBackend, _>(&task, &model, &batches, options, &Single, &device);
            let paths = flat_gradients(&model, &step.gradients)
                .into_iter()
                .map(|(path, _)| path);
            assert!(paths.clone().all(|path| !path.starts_with("visual")));
            assert_eq!(paths.count(), 8);
        }
    }
}
