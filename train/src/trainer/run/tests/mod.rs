use super::*;
use crate::checkpoint::Checkpoints;
use crate::error::Remedy;
use crate::feed::Place;
use crate::logs::read_metrics;
use crate::parameters::read_parameters;
use crate::toy::{Towers, ToyBatch, ToyTask, ToyTrained, TrainBackend};
use crate::trainer::collective::Single;
use crate::trainer::{Start, Stop};
use burn::backend::Flex;
use burn::tensor::TensorData;
use std::collections::BTreeMap;
use std::path::Path;

/// Samples in a batch of a [`Stream`].
const BATCH: u64 = 6;

/// A stream of random batches, each drawn from its number.
struct Stream {
    /// Batches in an epoch.
    per_epoch: u64,
    /// Batches from here on contain a NaN.
    poisoned: std::ops::Range<u64>,
    /// The data ends before this batch.
    end: u64,
}

impl Stream {
    fn new() -> Self {
        Self {
            per_epoch: 7,
            poisoned: 0..0,
            end: u64::MAX,
        }
    }
}

impl Batches<ToyBatch> for Stream {
    fn samples_per_epoch(&self) -> u64 {
        self.per_epoch * BATCH + 2
    }
    fn batch_size(&self) -> u64 {
        BATCH
    }
    fn get(&mut self, place: Place) -> Result<ToyBatch, BoxError> {
        let position = place.epoch * self.per_epoch + place.sample / BATCH;
        if position >= self.end {
            return Err("the disk is gone".into());
        }
        let mut batch = ToyBatch::random(BATCH as usize, position);
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

type Trained = ToyTrained<Flex>;

fn train(recipe: &Recipe, stream: &mut Stream, start: Start) -> Result<Outcome<Trained>> {
    let launch = Launch {
        start,
        ..Launch::default()
    };
    train_by(recipe, stream, &launch)
}

fn train_by(recipe: &Recipe, stream: &mut Stream, launch: &Launch) -> Result<Outcome<Trained>> {
    run(Run::<TrainBackend, _> {
        task: &ToyTask::with_caption_loss(),
        model: Towers::new(0, &Default::default()),
        recipe,
        batches: stream,
        collective: &Single,
        validate: None,
        launch,
        device: Default::default(),
    })
}

/// The plain task with a validation of its own.
fn rated(recipe: &Recipe, validate: Validate<'_, Trained>) -> Result<Outcome<Trained>> {
    run(Run::<TrainBackend, _> {
        task: &ToyTask::default(),
        model: Towers::new(0, &Default::default()),
        recipe,
        batches: &mut Stream::new(),
        collective: &Single,
        validate: Some(validate),
        launch: &Launch::default(),
        device: Default::default(),
    })
}

/// The values of the log, without what depends on the clock.
fn log(recipe: &Recipe) -> Vec<(u64, BTreeMap<String, f64>)> {
    let entries = read_metrics(&recipe.out().join("metrics.jsonl")).unwrap();
    entries.into_iter().map(|e| (e.step, e.values)).collect()
}

fn weights(outcome: &Outcome<Trained>) -> BTreeMap<String, TensorData> {
    read_parameters(&outcome.model.0)
}

/// Steps of the checkpoints of a run.
fn saved(recipe: &Recipe) -> Vec<u64> {
    let checkpoints = Checkpoints::new(recipe.out().join("checkpoints"), recipe.checkpoint.clone());
    let steps = checkpoints.all().into_iter().map(|dir| {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        name.trim_start_matches("step_").parse().unwrap()
    });
    steps.collect()
}

#[test]
fn the_loss_falls_and_everything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "ema = 0.9");
    let outcome = train(
        &recipe,
        &mut Stream {
            per_epoch: 1,
            ..Stream::new()
        },
        Start::New,
    )
    .unwrap();
    let log = log(&recipe);
    assert_eq!(log.len(), 20);
    assert!(log[19].1["loss"] < 0.8 * log[0].1["loss"], "{log:?}");
    assert_eq!(outcome.progress.samples, 120);
    assert_ne!(
        read_parameters(&outcome.ema.as_ref().unwrap().0),
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
        let expected = train(&whole, &mut Stream::new(), Start::New).unwrap();
        // The data fails after step 9; the latest checkpoint is that of step 8.
        let accumulate = halved.run.accumulate as u64;
        let per_epoch = 7 / accumulate;
        let end = 9 / per_epoch * 7 + 9 % per_epoch * accumulate;
        let mut cut = Stream {
            end,
            ..Stream::new()
        };
        let error = train(&halved, &mut cut, Start::New).unwrap_err();
        assert!(error.to_string().contains("the disk is gone"), "{error}");
        assert_eq!(saved(&halved), [4, 8]);
        let resumed = train(&halved, &mut Stream::new(), Start::Latest).unwrap();
        assert_eq!(log(&halved), log(&whole));
        assert_eq!(weights(&resumed), weights(&expected));
        let average =
            |outcome: &Outcome<Trained>| outcome.ema.as_ref().map(|m| read_parameters(&m.0));
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
    let outcome = train(&recipe, &mut stream, Start::New).unwrap();
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
    let error = train(&recipe, &mut stream, Start::New).unwrap_err();
    assert!(
        error
            .remedy()
            .is_some_and(|way| way.resume && way.accept_changes)
    );
    let message = error.to_string();
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
    let mut validate = |_: &Trained| {
        calls += 1;
        Ok([("accuracy".to_string(), if calls == 2 { 0.9 } else { 0.1 })].into())
    };
    rated(&recipe, &mut validate).unwrap();
    assert_eq!(saved(&recipe), [8, 20]);
}

#[test]
fn the_logit_scale_stays_in_its_range() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "logit_scale_range = [0.0, 2.0]");
    let outcome = train(&recipe, &mut Stream::new(), Start::New).unwrap();
    assert!(outcome.model.0.logit_scale.val().into_scalar() <= 2.0);
}

#[test]
fn another_recipe_is_refused_until_its_changes_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "");
    let mut cut = Stream {
        end: 13,
        ..Stream::new()
    };
    train(&recipe, &mut cut, Start::New).unwrap_err();
    let mut slower = recipe.clone();
    slower.optimizer.lr = 0.001;
    slower.run.replay = true;
    let refused = train(&slower, &mut Stream::new(), Start::Latest).unwrap_err();
    let accepting = Remedy {
        accept_changes: true,
        ..Remedy::default()
    };
    assert_eq!(refused.remedy(), Some(accepting));
    let refused = refused.to_string();
    for word in [
        "optimizer.lr: 0.01 → 0.001",
        "run.replay",
        "accept the changes",
    ] {
        assert!(refused.contains(word), "{refused}");
    }
    let launch = Launch {
        accept_changes: true,
        ..Launch::latest()
    };
    let outcome = train_by(&slower, &mut Stream::new(), &launch).unwrap();
    assert_eq!(outcome.progress.step, 20);
    let told = std::fs::read_to_string(folder.path().join("log.txt")).unwrap();
    assert!(
        told.contains("changed since: optimizer.lr: 0.01 → 0.001"),
        "{told}"
    );
    let lr = |step: usize| log(&slower)[step - 1].1["lr"];
    assert!(lr(12) > 0.004 && lr(13) < 0.001, "{} {}", lr(12), lr(13));
}

#[test]
fn a_finished_run_can_be_extended() {
    let (short, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let constant = |out: &Path, steps: u64| {
        let mut recipe = recipe(out, "");
        recipe.schedule.curve = crate::optimizer::Curve::Const;
        recipe.run.steps = Some(steps);
        recipe
    };
    train(&constant(short.path(), 12), &mut Stream::new(), Start::New).unwrap();
    let launch = Launch {
        accept_changes: true,
        ..Launch::latest()
    };
    let longer = constant(short.path(), 20);
    let extended = train_by(&longer, &mut Stream::new(), &launch).unwrap();
    let expected = train(&constant(whole.path(), 20), &mut Stream::new(), Start::New).unwrap();
    assert_eq!(weights(&extended), weights(&expected));
}

#[test]
fn another_batch_size_goes_on_at_the_same_sample() {
    /// Numbers of the samples that were asked for.
    struct Counting(u64, Vec<u64>);
    impl Batches<ToyBatch> for Counting {
        fn samples_per_epoch(&self) -> u64 {
            42
        }
        fn batch_size(&self) -> u64 {
            self.0
        }
        fn get(&mut self, place: Place) -> Result<ToyBatch, BoxError> {
            self.1.push(place.epoch * 42 + place.sample);
            Ok(ToyBatch::random(self.0 as usize, place.sample))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(folder.path(), "");
    recipe.run.steps = None;
    let mut asked = Vec::new();
    for (epochs, batch, accept_changes) in [(1, 6, false), (2, 3, true)] {
        recipe.run.epochs = Some(epochs);
        let mut stream = Counting(batch, Vec::new());
        run(Run::<TrainBackend, _> {
            task: &ToyTask::default(),
            model: Towers::new(0, &Default::default()),
            recipe: &recipe,
            batches: &mut stream,
            collective: &Single,
            validate: None,
            launch: &Launch {
                accept_changes,
                ..Launch::latest()
            },
            device: Default::default(),
        })
        .unwrap();
        asked.push(stream.1);
    }
    assert_eq!(asked[0], (0..7).map(|i| i * 6).collect::<Vec<_>>());
    assert_eq!(asked[1], (14..28).map(|i| i * 3).collect::<Vec<_>>());
}

#[test]
fn going_back_sets_later_checkpoints_aside_and_keeps_the_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "");
    train(&recipe, &mut Stream::new(), Start::New).unwrap();
    assert_eq!(saved(&recipe), [12, 16, 20]);
    let start = || Start::Checkpoint(folder.path().join("checkpoints/step_00000012"));
    let mut cut = Stream {
        end: 17,
        ..Stream::new()
    };
    train(&recipe, &mut cut, start()).unwrap_err();
    assert_eq!(saved(&recipe), [12, 16]);
    for step in [16, 20] {
        let aside = format!("checkpoints/set_aside/step_{step:08}/manifest.json");
        assert!(folder.path().join(aside).is_file());
    }
    // A second time the names are taken.
    train(&recipe, &mut cut, start()).unwrap_err();
    let second = folder.path().join("checkpoints/set_aside/step_00000016.2");
    assert!(second.is_dir());
    train(&recipe, &mut Stream::new(), Start::Latest).unwrap();
    assert_eq!(saved(&recipe), [12, 16, 20]);
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(folder.path(), "check_every = 50");
    recipe.log.every = 50;
    let mut stream = Stream {
        poisoned: 9..100,
        ..Stream::new()
    };
    let error = train(&recipe, &mut stream, Start::New).unwrap_err();
    let remedy = Remedy {
        resume: true,
        accept_changes: false,
        set: Some("run.check_every=1"),
    };
    assert_eq!(error.remedy(), Some(remedy));
    let message = error.to_string();
    assert!(message.contains("run.check_every"), "{message}");
    assert_eq!(saved(&recipe), [4, 8]);
    // The advice of the message is enough, without accepting changes.
    recipe.run.check_every = 1;
    recipe.run.max_skipped = 100;
    let outcome = train(&recipe, &mut stream, Start::Latest).unwrap();
    assert_eq!((outcome.progress.step, outcome.progress.skipped), (20, 11));
}

#[test]
fn a_stopped_run_saves_and_goes_on_alike() {
    let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (whole, stopped) = (recipe(whole.path(), ""), recipe(stopped.path(), ""));
    let expected = train(&whole, &mut Stream::new(), Start::New).unwrap();
    /// Throws the switch while step 7 is made.
    struct Stopping(Stream, Stop);
    impl Batches<ToyBatch> for Stopping {
        fn samples_per_epoch(&self) -> u64 {
            self.0.samples_per_epoch()
        }
        fn batch_size(&self) -> u64 {
            BATCH
        }
        fn get(&mut self, place: Place) -> Result<ToyBatch, BoxError> {
            if place.sample == 36 {
                self.1.stop();
            }
            self.0.get(place)
        }
    }
    let launch = Launch::default();
    let outcome = run(Run::<TrainBackend, _> {
        task: &ToyTask::with_caption_loss(),
        model: Towers::new(0, &Default::default()),
        recipe: &stopped,
        batches: &mut Stopping(Stream::new(), launch.stop.clone()),
        collective: &Single,
        validate: None,
        launch: &launch,
        device: Default::default(),
    });
    assert!(outcome.unwrap().stopped);
    assert_eq!(saved(&stopped), [4, 7]);
    let told = std::fs::read_to_string(stopped.out().join("log.txt")).unwrap();
    assert!(told.contains("stopped after step 7 of 20"), "{told}");
    let resumed = train(&stopped, &mut Stream::new(), Start::Latest).unwrap();
    assert!(!resumed.stopped);
    assert_eq!(weights(&resumed), weights(&expected));
    assert_eq!(log(&stopped), log(&whole));
}

#[test]
fn only_what_is_trained_is_in_a_checkpoint_and_the_rest_must_be_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(folder.path(), "ema = 0.9");
    recipe.groups.freeze = vec!["visual.*".into()];
    let mut cut = Stream {
        end: 9,
        ..Stream::new()
    };
    train(&recipe, &mut cut, Start::New).unwrap_err();
    let dir = folder.path().join("checkpoints/step_00000008");
    for file in ["weights", "ema", "optimizer"] {
        let names = crate::checkpoint::tensors::read(&dir.join(format!("{file}.safetensors")));
        let names = names.unwrap().into_keys().collect::<Vec<_>>();
        assert!(
            names.iter().all(|name| !name.contains("visual")),
            "{names:?}"
        );
        assert!(
            names.iter().any(|name| name.contains("logit_scale")),
            "{names:?}"
        );
    }
    let other = run(Run::<TrainBackend, _> {
        task: &ToyTask::with_caption_loss(),
        model: Towers::new(1, &Default::default()),
        recipe: &recipe,
        batches: &mut Stream::new(),
        collective: &Single,
        validate: None,
        launch: &Launch::latest(),
        device: Default::default(),
    });
    let message = other.unwrap_err().to_string();
    assert!(message.contains("not trained"), "{message}");
    train(&recipe, &mut Stream::new(), Start::Latest).unwrap();
}

#[test]
fn a_second_process_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "");
    let _held = lock(&recipe.out()).unwrap();
    let message = train(&recipe, &mut Stream::new(), Start::New).unwrap_err();
    assert!(message.to_string().contains("another process"), "{message}");
}

fn model_file(recipe: &Recipe) -> String {
    std::fs::read_to_string(recipe.out().join("model/model.txt")).unwrap()
}

#[test]
fn a_model_that_a_killed_process_had_moved_aside_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(folder.path(), "");
    train(&recipe, &mut Stream::new(), Start::New).unwrap();
    let before = model_file(&recipe);
    let path = |name: &str| folder.path().join(name);
    // Killed after the old one was moved aside, before the new one took its place.
    std::fs::rename(path("model"), path(".model.old")).unwrap();
    std::fs::create_dir(path("model.partial")).unwrap();
    recipe.run.steps = Some(30);
    let mut cut = Stream {
        end: 0,
        ..Stream::new()
    };
    let launch = Launch {
        accept_changes: true,
        ..Launch::latest()
    };
    train_by(&recipe, &mut cut, &launch).unwrap_err();
    assert_eq!(model_file(&recipe), before);
    assert!(!path(".model.old").exists() && !path("model.partial").exists());
    // The run that is completed writes its own in place of it.
    train_by(&recipe, &mut Stream::new(), &launch).unwrap();
    assert_ne!(model_file(&recipe), before);
    assert!(!path(".model.old").exists() && !path("model.partial").exists());
}

#[test]
fn a_report_that_cannot_be_written_does_not_cost_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "");
    std::fs::create_dir(folder.path().join("report.html")).unwrap();
    train(&recipe, &mut Stream::new(), Start::New).unwrap();
    assert!(!model_file(&recipe).is_empty());
    let told = std::fs::read_to_string(folder.path().join("log.txt")).unwrap();
    assert!(told.contains("the report could not be written"), "{told}");
}

/// Only a method's own validation gets so far: the metrics of recipes are known before the first step.
#[test]
fn a_metric_that_is_not_measured_ends_the_run_unless_that_is_over() {
    let trained = |validate_every: u64| {
        let folder = tempfile::tempdir().unwrap();
        let mut recipe = recipe(folder.path(), "");
        recipe.log.validate_every = validate_every;
        recipe.checkpoint.best = Some("precision".into());
        let mut validate = |_: &Trained| Ok([("accuracy".to_string(), 0.5)].into());
        let ended = rated(&recipe, &mut validate);
        let told = std::fs::read_to_string(folder.path().join("log.txt")).unwrap();
        let (known, model) = ("\"precision\" is no metric", recipe.out().join("model"));
        assert!(told.contains(known) && told.contains("accuracy"), "{told}");
        assert_eq!(model.exists(), ended.is_ok());
        ended.map(|outcome| outcome.progress.step)
    };
    assert!(trained(4).is_err());
    assert_eq!(trained(0).unwrap(), 20);
}

#[test]
fn a_loop_of_ones_own_gives_what_run_gives() {
    let (whole, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (whole, own) = (recipe(whole.path(), ""), recipe(own.path(), ""));
    let expected = train(&whole, &mut Stream::new(), Start::New).unwrap();
    let (task, mut stream) = (ToyTask::with_caption_loss(), Stream::new());
    let model = Towers::<TrainBackend>::new(0, &Default::default());
    let mut trainer = Trainer::new(&task, model, &own, &mut stream, &Default::default()).unwrap();
    trainer.start(&Launch::default()).unwrap();
    while !trainer.is_done() {
        let report = trainer.step().unwrap();
        if report.every(8) {
            trainer.save().unwrap();
        }
    }
    trainer.finish().unwrap();
    assert_eq!(read_parameters(&trainer.trained().0), weights(&expected));
    assert_eq!(saved(&own), [8, 16, 20]);
    assert_eq!(trainer.take_notes().len(), 3);
}

mod faults;
mod open_clip;
mod parity;
mod replicas;
