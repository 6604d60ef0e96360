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
    local_loss: true,
    guarded: false,
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
        let whole_loss = StepOptions {
            local_loss: false,
            ..OPTIONS
        };
        for options in [OPTIONS, REPLAY, whole_loss] {
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
            let rank = collective.rank();
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
        message(0).contains("replica 1 failed: taking a batch backwards: the second time"),
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
