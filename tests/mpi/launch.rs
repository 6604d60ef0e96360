//! `mpirun`, and what it leaves.

use crate::command::{Folder, Outcome, binary, words};
use clip_burn::clip::checkpoint::{StateDict, read_state_dict};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// CLIP on a small world of scenes. The large `eps` keeps AdamW from making steps of full length of what is zero but for
/// rounding: the gradient of the keys' biases, to which a softmax is blind.
pub const RECIPE: &str = r#"
[run]
steps = 20
[model]
name = "tiny"
[method]
name = "clip"
[optimizer]
lr = 1e-3
eps = 1e-3
[schedule]
warmup = 3
[data.loader]
batch_size = 8
workers = 1
[data.augment]
scale = [0.6, 1.0]
[[data.sources]]
kind = "scenes"
world = { image_size = 32, train_size = 41, shapes = 2, colours = 3, max_objects = 1 }
[checkpoint]
every = 5
[log]
every = 1
"#;

/// Arguments of a run: settings of the recipe, separated by spaces.
pub fn settings(line: &str) -> Vec<String> {
    let settings = line.split_whitespace();
    settings.flat_map(|s| ["--set".into(), s.into()]).collect()
}

/// The command of so many processes; one needs no `mpirun`.
pub fn command(folder: &Folder, processes: usize, arguments: &[String]) -> Command {
    let train = binary("train");
    let mut command = match processes {
        1 => Command::new(train),
        _ => {
            let mut mpirun = Command::new("mpirun");
            // Between SIGTERM and SIGKILL; Open MPI waits it out, twice, even when all have ended.
            let line = "--allow-run-as-root --oversubscribe --bind-to none --mca odls_base_sigkill_timeout 3 -n";
            mpirun.args(words(line)).arg(processes.to_string());
            mpirun
                .arg(train)
                .args(words("--dist mpi --dist-timeout 20"));
            mpirun
        }
    };
    let folder = folder.path("");
    command
        .args(arguments)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "1");
    command
}

/// Trains and waits for the end.
#[track_caller]
pub fn train(folder: &Folder, processes: usize, line: &str) -> Outcome {
    let mut arguments = words("--recipe recipe.toml");
    arguments.extend(settings(line));
    Outcome::of(command(folder, processes, &arguments).output().unwrap())
}

/// Starts a run and waits until a file is there.
#[track_caller]
pub fn start_until(folder: &Folder, processes: usize, line: &str, file: &str) -> Child {
    let mut arguments = words("--recipe recipe.toml");
    arguments.extend(settings(line));
    let mut command = command(folder, processes, &arguments);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !folder.path(file).exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no {file}");
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before {file} was there"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// All weights of a model's file.
pub fn weights(folder: &Folder, path: &str) -> StateDict {
    read_state_dict(&folder.path(path)).unwrap()
}

/// The largest difference of two models, and where it is.
pub fn difference(a: &StateDict, b: &StateDict) -> (f32, String) {
    assert_eq!(a.len(), b.len());
    let mut largest = (0.0, String::new());
    for (name, tensor) in a.iter() {
        let other = b.get(name).unwrap();
        for (x, y) in tensor.values().iter().zip(other.values()) {
            if (x - y).abs() > largest.0 {
                largest = ((x - y).abs(), name.to_string());
            }
        }
    }
    largest
}
