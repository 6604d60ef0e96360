//! Runs of several replicas, each on a thread of its own.

use super::*;
use crate::trainer::collective::Threads;
use std::sync::Arc;

/// Samples of all replicas in a micro-batch.
const ALL: u64 = 12;

/// The share of one replica in a stream of batches of all.
struct Share {
    rank: usize,
    replicas: usize,
    /// Samples of all replicas in a micro-batch.
    all: u64,
    /// The data of this replica ends before this micro-batch.
    end: u64,
}

impl Batches<ToyBatch> for Share {
    fn samples_per_epoch(&self) -> u64 {
        7 * self.batch_size() + 1
    }
    fn batch_size(&self) -> u64 {
        self.all / self.replicas as u64
    }
    fn get(&mut self, place: Place) -> Result<ToyBatch, BoxError> {
        let position = place.epoch * 7 + place.sample / self.batch_size();
        if position >= self.end {
            return Err("the disk is gone".into());
        }
        let parts = vec![self.batch_size() as usize; self.replicas];
        let batch = ToyBatch::random(self.all as usize, position).split(&parts);
        Ok(batch[self.rank].clone())
    }
}

type Outcomes = Vec<Result<Outcome<Trained>>>;

/// The same run by so many replicas; `change` sets one of them up otherwise.
fn all(
    replicas: usize,
    recipe: &Recipe,
    launch: &Launch,
    change: impl Fn(usize, &mut Share, &mut Launch, &mut u64) + Sync,
) -> Outcomes {
    let change = &change;
    std::thread::scope(|scope| {
        let work = |(rank, world): (usize, Threads)| {
            let mut recipe = recipe.clone();
            let share = ALL as i64 / replicas as i64;
            let loader: toml::Table = [("batch_size".into(), share.into())].into_iter().collect();
            recipe.data.insert("loader".into(), loader.into());
            let (mut launch, mut seed) = (launch.clone(), 0);
            launch.world = Arc::new(world);
            let mut batches = Share {
                rank,
                replicas,
                all: ALL,
                end: u64::MAX,
            };
            scope.spawn(move || {
                change(rank, &mut batches, &mut launch, &mut seed);
                run(Run::<TrainBackend, _> {
                    task: &ToyTask::with_caption_loss().in_chunks(Some(3)),
                    model: Towers::new(seed, &Default::default()),
                    recipe: &recipe,
                    batches: &mut batches,
                    collective: &launch.world,
                    validate: None,
                    launch: &launch,
                    device: Default::default(),
                })
            })
        };
        let replicas = Threads::group(replicas).into_iter().enumerate();
        let threads: Vec<_> = replicas.map(work).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn as_they_are(_: usize, _: &mut Share, _: &mut Launch, _: &mut u64) {}

/// The weights that all replicas have ended with.
fn trained(outcomes: Outcomes) -> BTreeMap<String, TensorData> {
    let all: Vec<_> = outcomes
        .iter()
        .map(|o| weights(o.as_ref().unwrap()))
        .collect();
    assert!(all.iter().all(|w| *w == all[0]), "replicas drifted apart");
    all.into_iter().next().unwrap()
}

fn assert_close(a: &BTreeMap<String, TensorData>, b: &BTreeMap<String, TensorData>, what: &str) {
    assert_eq!(a.len(), b.len());
    for (path, values) in a {
        for (x, y) in values.iter::<f32>().zip(b[path].iter::<f32>()) {
            assert!((x - y).abs() < 1e-6, "{what}: {path}: {x} {y}");
        }
    }
}

#[test]
fn two_and_four_replicas_train_as_one_with_the_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    for more in ["", "accumulate = 2", "accumulate = 2\nreplay = true"] {
        let out = |name: &str| {
            folder
                .path()
                .join(format!("{name} {}", more.replace('\n', " ")))
        };
        let one = recipe(&out("one"), more);
        let want = trained(all(1, &one, &Launch::default(), as_they_are));
        for (replicas, options) in [
            (2, ""),
            (4, ""),
            (2, "local_loss = false"),
            (2, "shard_optimizer = true\nema = 0.9"),
            (4, "shard_optimizer = true"),
        ] {
            let name = format!("{replicas} {}", options.replace('\n', " "));
            let recipe = recipe(&out(&name), &format!("{more}\n{options}"));
            let got = trained(all(replicas, &recipe, &Launch::default(), as_they_are));
            assert_close(&got, &want, &format!("{name} {more}"));
            let (mine, theirs) = (log(&recipe), log(&one));
            let loss = |log: &[(u64, BTreeMap<String, f64>)]| log[19].1["loss"];
            assert!((loss(&mine) - loss(&theirs)).abs() < 1e-4, "{name}");
        }
    }
}

/// Steps 1 to 8 on two, to 13 on four, the rest on one.
#[test]
fn a_run_goes_on_with_another_number_of_replicas() {
    let folder = tempfile::tempdir().unwrap();
    for options in ["", "shard_optimizer = true"] {
        let undisturbed = recipe(&folder.path().join(format!("one {options}")), options);
        let want = trained(all(1, &undisturbed, &Launch::default(), as_they_are));
        let recipe = recipe(&folder.path().join(format!("many {options}")), options);
        for (replicas, end) in [(2, 8), (4, 13), (1, u64::MAX)] {
            let outcomes = all(replicas, &recipe, &Launch::latest(), |_, share, _, _| {
                share.end = end;
            });
            if end < u64::MAX {
                assert!(outcomes.iter().all(Result::is_err));
                continue;
            }
            assert_close(&trained(outcomes), &want, options);
        }
    }
}

#[test]
fn the_data_of_one_replica_ends_and_all_end_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&folder.path().join("run"), "");
    let outcomes = all(3, &recipe, &Launch::default(), |rank, share, _, _| {
        if rank == 1 {
            share.end = 5;
        }
    });
    let said: Vec<String> = outcomes
        .into_iter()
        .map(|outcome| outcome.err().unwrap().to_string())
        .collect();
    assert!(said[1].contains("the disk is gone") && !said[1].contains("replica"));
    for rank in [0, 2] {
        let words = &said[rank];
        assert!(
            words.contains("replica 1 failed") && words.contains("the disk is gone"),
            "{words}"
        );
    }
    let log = |name: &str| std::fs::read_to_string(recipe.out().join(name)).unwrap();
    assert!(log("log.txt").contains("replica 1 failed"));
    assert!(log("log_rank1.txt").contains("the disk is gone"));
}

#[test]
fn one_replica_is_asked_to_stop_and_all_stop_with_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = recipe(&folder.path().join("one"), "");
    let want = trained(all(1, &undisturbed, &Launch::default(), as_they_are));
    let recipe = recipe(&folder.path().join("run"), "shard_optimizer = true");
    let outcomes = all(2, &recipe, &Launch::default(), |rank, _, launch, _| {
        launch.stop = Stop::default(); // each process has its own
        if rank == 1 {
            launch.stop.stop();
        }
    });
    for outcome in &outcomes {
        let outcome = outcome.as_ref().unwrap();
        assert!(outcome.stopped);
        assert_eq!(outcome.progress.step, 1);
    }
    let resumed = all(2, &recipe, &Launch::latest(), as_they_are);
    assert_close(&trained(resumed), &want, "resumed");
}

#[test]
fn more_replicas_with_the_same_batch_each_are_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&folder.path().join("run"), "");
    let stopped = all(2, &recipe, &Launch::latest(), |_, share, _, _| {
        share.end = 8
    });
    assert!(stopped.iter().all(Result::is_err));
    for outcome in all(4, &recipe, &Launch::latest(), |_, share, _, _| {
        share.all = 2 * ALL
    }) {
        let message = outcome.err().unwrap().to_string();
        assert!(message.contains("processes: 12 → 24"), "{message}");
    }
    let mut launch = Launch::latest();
    launch.accept_changes = true;
    let outcomes = all(4, &recipe, &launch, |_, share, _, _| share.all = 2 * ALL);
    assert_eq!(outcomes[0].as_ref().unwrap().progress.step, 20);
    assert!(
        std::fs::read_to_string(recipe.out().join("log.txt"))
            .unwrap()
            .contains("changed since: data.loader")
    );
}

#[test]
fn replicas_that_start_from_other_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&folder.path().join("run"), "");
    let outcomes = all(2, &recipe, &Launch::default(), |rank, _, _, seed| {
        *seed = rank as u64;
    });
    for outcome in outcomes {
        let message = outcome.err().unwrap().to_string();
        assert!(
            message.contains("replica 1 starts from other weights"),
            "{message}"
        );
    }
    assert!(!recipe.out().join("log.txt").exists());
}
