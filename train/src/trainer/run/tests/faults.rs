//! Processes that die and disks that fill up. Children are this test binary, asked for a single test.

use super::*;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CHILD_OUT: &str = "TRAIN_TEST_CHILD_OUT";
const CHILD_MORE: &str = "TRAIN_TEST_CHILD_MORE";

/// Batches that take their time, so that a kill can hit any step.
struct Slow(Stream);

impl Batches<ToyBatch> for Slow {
    fn samples_per_epoch(&self) -> u64 {
        self.0.samples_per_epoch()
    }
    fn batch_size(&self) -> u64 {
        BATCH
    }
    fn get(&mut self, place: Place) -> Result<ToyBatch, BoxError> {
        std::thread::sleep(Duration::from_millis(4));
        self.0.get(place)
    }
}

/// Not a test by itself: what the child processes run.
#[test]
#[ignore = "the other tests of this file run it, as a process of its own"]
fn child_process_that_trains() {
    let told =
        |name| std::env::var(name).expect("the test that starts this one says what to train");
    let (out, more) = (told(CHILD_OUT), told(CHILD_MORE));
    let result = run::<TrainBackend, _>(Run {
        task: &ToyTask::with_caption_loss(),
        model: Towers::new(0, &Default::default()),
        recipe: &recipe(Path::new(&out), &more),
        batches: &mut Slow(Stream::new()),
        collective: &Single,
        validate: None,
        launch: &Launch::latest(),
        device: Default::default(),
    });
    if let Err(error) = result {
        println!("ended with: {error}");
    }
}

/// Starts a child below `shell`, which may set limits before it runs `"$0" "$@"`.
fn child(shell: &str, out: &Path, more: &str) -> Child {
    Command::new("bash")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args([
            "child_process_that_trains",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_OUT, out)
        .env(CHILD_MORE, more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn assert_killed_equals_whole(more: &str) {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (whole, killed) = (recipe(whole.path(), more), recipe(killed.path(), more));
    let expected = train(&whole, &mut Stream::new(), Start::New).unwrap();

    let random = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .subsec_nanos() as usize;
    let text = |name: &str| std::fs::read_to_string(killed.out().join(name)).unwrap_or_default();
    let lines = || text("metrics.jsonl").lines().count();
    // The table of groups is told at each start. What the process before has logged says nothing of this one.
    let starts = || text("log.txt").matches("lr scale").count();
    let first = 2 + random % 7;
    for (before, kill_after) in [first, first + 1 + random / 7 % 8].into_iter().enumerate() {
        let mut child = child("", &killed.out(), more);
        let reached = || starts() > before && lines() >= kill_after;
        while !reached() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(300));
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        println!("killed after {} entries", lines());
        assert!(reached(), "the child has not trained");
    }
    let resumed = train(&killed, &mut Stream::new(), Start::Latest).unwrap();
    assert_eq!(log(&killed), log(&whole));
    assert_eq!(weights(&resumed), weights(&expected));
    assert_eq!(resumed.progress, expected.progress);
}

#[test]
fn a_process_killed_at_random_steps_and_resumed_equals_one_that_never_stopped() {
    assert_killed_equals_whole("");
}

#[test]
fn a_killed_process_resumes_alike_with_gradient_cache_replay_and_averages() {
    assert_killed_equals_whole("accumulate = 2\nreplay = true\nema = 0.9");
}

#[test]
fn a_full_disk_stops_with_a_message_and_spares_earlier_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "");
    let mut stream = Stream {
        poisoned: 9..100,
        ..Stream::new()
    };
    let mut short = recipe.clone();
    short.run.max_skipped = 0; // ends after the checkpoint of step 8
    train(&short, &mut stream, Start::New).unwrap_err();
    let checkpoints =
        Checkpoints::new(folder.path().join("checkpoints"), recipe.checkpoint.clone());
    let (before, _) = checkpoints.latest().unwrap().unwrap();
    assert!(before.ends_with("step_00000008"));

    // Files may not grow beyond 6 KiB: writing fails as it does on a full disk.
    let child = child("trap '' XFSZ; ulimit -f 6;", folder.path(), "");
    let output = String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned();
    assert!(
        output.contains("ended with") && output.contains("step_00000020"),
        "{output}"
    );
    let (after, damaged) = checkpoints.latest().unwrap().unwrap();
    assert_eq!((after, damaged), (before.clone(), vec![]));
    let left = std::fs::read_dir(folder.path().join("checkpoints"))
        .unwrap()
        .count();
    assert_eq!(left, 2, "nothing is left of the failed attempts");
    assert_eq!(saved(&recipe), [4, 8]);
    train(&recipe, &mut Stream::new(), Start::Latest).unwrap();
}
