use super::*;
use crate::collective::Single;
use crate::logs::read_metrics;
use crate::parameters::read_parameters;
use crate::toy::{Towers, ToyBatch, ToyTask, TrainBackend};
use burn::tensor::TensorData;
use std::path::Path;

/// A stream of random batches, each drawn from its number.
struct Stream {
    per_epoch: u64,
    /// Batches from here on contain a NaN.
    poisoned: std::ops::Range<u64>,
}

impl Stream {
    fn new() -> Self {
        Self {
            per_epoch: 7,
            poisoned: 0..0,
        }
    }
}

impl Batches<ToyBatch> for Stream {
    fn per_epoch(&self) -> u64 {
        self.per_epoch
    }
    fn get(&mut self, position: u64) -> Result<ToyBatch, BoxError> {
        let mut batch = ToyBatch::random(6, position);
        if self.poisoned.contains(&position) {
            batch.images[0] = f32::NAN;
        }
        Ok(batch)
    }
}

fn recipe(out: &Path, more: &str) -> Recipe {
    let text = format!(
        "[run]\nout = {out:?}\nsteps = 20\n{more}\n[optimizer]\nlr = 0.01\n[schedule]\nwarmup = 3\n\
         [log]\nevery = 1\nprogress = false\n[checkpoint]\nevery = 4\n"
    );
    Recipe::parse(&text).unwrap()
}

fn train(
    recipe: &Recipe,
    stream: &mut Stream,
    resume: Resume,
) -> Result<Outcome<Towers<TrainBackend>>> {
    run(Run {
        task: &ToyTask::with_caption_loss(),
        model: Towers::<TrainBackend>::new(0, &Default::default()),
        recipe,
        batches: stream,
        collective: &Single,
        validate: None,
        resume,
        device: Default::default(),
    })
}

/// The values of the log, without what depends on the clock.
fn log(recipe: &Recipe) -> Vec<(u64, BTreeMap<String, f64>)> {
    let entries = read_metrics(&recipe.out().join("metrics.jsonl")).unwrap();
    entries.into_iter().map(|e| (e.step, e.values)).collect()
}

fn weights(outcome: &Outcome<Towers<TrainBackend>>) -> BTreeMap<String, TensorData> {
    read_parameters(&outcome.model)
}

#[test]
fn the_loss_falls_and_everything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "ema = 0.9");
    let outcome = train(
        &recipe,
        &mut Stream {
            per_epoch: 1,
            poisoned: 0..0,
        },
        Resume::No,
    )
    .unwrap();
    let log = log(&recipe);
    assert_eq!(log.len(), 20);
    assert!(log[19].1["loss"] < 0.8 * log[0].1["loss"], "{log:?}");
    assert_eq!(outcome.progress.samples, 120);
    assert_ne!(
        read_parameters(outcome.ema.as_ref().unwrap()),
        weights(&outcome)
    );
    for name in [
        "recipe.toml",
        "report.html",
        "log.txt",
        "tensorboard",
        "checkpoints/step_00000020",
    ] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}

#[test]
fn a_run_resumed_in_the_middle_of_an_epoch_equals_one_that_never_stopped() {
    for more in ["", "accumulate = 3\nreplay = true\nema = 0.5"] {
        let (whole, halved) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (whole, halved) = (recipe(whole.path(), more), recipe(halved.path(), more));
        let expected = train(&whole, &mut Stream::new(), Resume::No).unwrap();
        // The data fails after step 9; the latest checkpoint is that of step 8.
        struct Cut(Stream, u64);
        impl Batches<ToyBatch> for Cut {
            fn per_epoch(&self) -> u64 {
                self.0.per_epoch
            }
            fn get(&mut self, position: u64) -> Result<ToyBatch, BoxError> {
                if position >= self.1 {
                    return Err("the disk is gone".into());
                }
                self.0.get(position)
            }
        }
        let end = Position::new(7, halved.run.accumulate as u64)
            .batches_of(9)
            .start;
        let error = run::<TrainBackend, _>(Run {
            task: &ToyTask::with_caption_loss(),
            model: Towers::new(0, &Default::default()),
            recipe: &halved,
            batches: &mut Cut(Stream::new(), end),
            collective: &Single,
            validate: None,
            resume: Resume::No,
            device: Default::default(),
        });
        assert!(error.unwrap_err().to_string().contains("the disk is gone"));
        let resumed = train(&halved, &mut Stream::new(), Resume::Latest).unwrap();
        assert_eq!(log(&halved), log(&whole));
        assert_eq!(weights(&resumed), weights(&expected));
        let average = |outcome: &Outcome<_>| outcome.ema.as_ref().map(read_parameters);
        assert_eq!(average(&resumed), average(&expected));
    }
}

#[test]
fn a_step_that_is_not_finite_is_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "");
    let mut stream = Stream {
        poisoned: 5..7,
        ..Stream::new()
    };
    let outcome = train(&recipe, &mut stream, Resume::No).unwrap();
    assert_eq!((outcome.progress.step, outcome.progress.skipped), (20, 2));
    let finite = |data: &TensorData| data.iter::<f32>().all(f32::is_finite);
    assert!(weights(&outcome).values().all(finite));
}

#[test]
fn too_many_steps_that_are_not_finite_end_the_run_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "max_skipped = 2");
    let mut stream = Stream {
        poisoned: 5..100,
        ..Stream::new()
    };
    let message = train(&recipe, &mut stream, Resume::No)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("run.max_skipped = 2") && message.contains("optimizer.lr"),
        "{message}"
    );
}

#[test]
fn validation_is_logged_and_its_best_checkpoint_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(folder.path(), "");
    recipe.log.validate_every = 4;
    recipe.checkpoint.best = Some("accuracy".into());
    recipe.checkpoint.keep = 1;
    let mut calls = 0;
    let mut validate = |_: &Towers<TrainBackend>| {
        calls += 1;
        Ok([("accuracy".to_string(), if calls == 2 { 0.9 } else { 0.1 })].into())
    };
    run::<TrainBackend, _>(Run {
        task: &ToyTask::default(),
        model: Towers::new(0, &Default::default()),
        recipe: &recipe,
        batches: &mut Stream::new(),
        collective: &Single,
        validate: Some(&mut validate),
        resume: Resume::No,
        device: Default::default(),
    })
    .unwrap();
    let kept = |step: u64| {
        folder
            .path()
            .join(format!("checkpoints/step_{step:08}"))
            .exists()
    };
    assert_eq!(
        [4, 8, 12, 16, 20].map(kept),
        [false, true, false, false, true]
    );
}

#[test]
fn the_logit_scale_stays_in_its_range() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "logit_scale_range = [0.0, 2.0]");
    let outcome = train(&recipe, &mut Stream::new(), Resume::No).unwrap();
    assert!(outcome.model.logit_scale.val().into_scalar() <= 2.0);
}

mod faults;
mod open_clip;
mod parity;
