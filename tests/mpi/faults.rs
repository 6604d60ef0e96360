//! What ends one process ends all, with words; what stops one stops all, with a checkpoint.

use crate::command::{Folder, Outcome, words};
use crate::launch::{RECIPE, command, difference, settings, start_until, train, weights};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("recipe.toml", RECIPE);
    folder
}

/// The process with this rank among the children of `mpirun`.
fn process_of_rank(mpirun: &Child, rank: usize) -> u32 {
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let found = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_it = |pid: &u32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let parent = format!("PPid:\t{}", mpirun.id());
        let environment = read("environ");
        let mut variables = environment.split(|byte| *byte == 0);
        status.lines().any(|line| line == parent) && variables.any(|v| v == wanted.as_bytes())
    };
    found.into_iter().find(is_it).expect("mpirun has children")
}

fn signal(name: &str, process: u32) {
    let kill = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(kill.unwrap().success());
}

#[track_caller]
fn ends(child: Child, within: Duration) -> Outcome {
    let start = Instant::now();
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert!(start.elapsed() < within, "it took {:?}", start.elapsed());
    outcome
}

#[test]
fn a_killed_process_ends_the_others() {
    let folder = folder();
    let line = "run.steps=100000 run.out=run data.loader.batch_size=4";
    let child = start_until(&folder, 2, line, "run/checkpoints/step_00000005");
    signal("-KILL", process_of_rank(&child, 1));
    ends(child, Duration::from_secs(20)).refused(&["signal 9"]);
}

#[test]
fn a_process_that_hangs_is_given_up_after_the_timeout() {
    let folder = folder();
    let line = "run.steps=100000 run.out=run data.loader.batch_size=4";
    let child = start_until(&folder, 2, line, "run/checkpoints/step_00000005");
    let hanging = process_of_rank(&child, 1);
    signal("-STOP", hanging);
    let outcome = ends(child, Duration::from_secs(120));
    outcome.refused(&["replica 0 has waited 20 s for the others"]);
}

/// Rank 1 reads every second sample, and all of those are no images.
#[test]
fn an_error_of_the_loader_of_one_process_ends_all_with_its_text() {
    let folder = folder();
    for i in 0..64 {
        let name = format!("images/{}/{i:03}.png", ["red", "blue"][i / 32]);
        match i % 2 {
            0 => folder.image(&name, [32, 32], i as u32),
            _ => folder.write(&name, "no image"),
        };
    }
    let data = r#"data={loader={batch_size=4,workers=1,max_bad=0.1},order={kind="sequential"},sources=[{kind="folder",path="images"}]}"#;
    let outcome = train(&folder, 2, &format!("run.out=run {data}"));
    outcome.refused(&["replica 1 failed", "reading a batch", "blue/"]);
    let log = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    assert!(log("run/log.txt").contains("replica 1 failed"));
    assert!(log("run/log_rank1.txt").contains("reading a batch"));
}

/// On the way from two processes to one, two and four.
#[test]
fn sigterm_to_mpirun_leaves_a_checkpoint_that_any_number_of_processes_resumes() {
    let folder = folder();
    let length = "run.steps=120 run.accumulate=4 checkpoint.every=1000";
    train(&folder, 1, &format!("{length} run.out=whole")).succeeded();
    let want = weights(&folder, "whole/model/open_clip_model.safetensors");
    let line = format!("{length} run.out=run data.loader.batch_size=4");
    let child = start_until(&folder, 2, &line, "run/metrics.jsonl");
    signal("-TERM", child.id());
    let outcome = ends(child, Duration::from_secs(60));
    assert!(
        outcome.stderr.contains("stopped after step"),
        "{}",
        outcome.stderr
    );
    for processes in [1, 2, 4] {
        let copy = format!("resumed{processes}");
        let copied = Command::new("cp")
            .args(["-r", "run", &copy])
            .current_dir(folder.path(""))
            .status();
        assert!(copied.unwrap().success());
        let mut arguments = words("--recipe recipe.toml --resume latest");
        let share = 8 / processes;
        let line = format!("{length} run.out={copy} data.loader.batch_size={share}");
        arguments.extend(settings(&line));
        let resumed = command(&folder, processes, &arguments).output().unwrap();
        Outcome::of(resumed).succeeded().said(&["resumed from"]);
        let got = weights(
            &folder,
            &format!("{copy}/model/open_clip_model.safetensors"),
        );
        let (largest, name) = difference(&got, &want);
        assert!(
            largest <= 1e-6,
            "{processes} processes: {name} differs by {largest:e}"
        );
    }
}

/// SIGUSR1 is what `mpirun` hands on without killing anybody after it, and what schedulers send before the time is up.
#[test]
fn sigusr1_to_mpirun_stops_all_with_a_checkpoint() {
    let folder = folder();
    let line = "run.steps=100000 checkpoint.every=100000 run.out=run data.loader.batch_size=4";
    let child = start_until(&folder, 2, line, "run/metrics.jsonl");
    signal("-USR1", child.id());
    let outcome = ends(child, Duration::from_secs(60)).succeeded();
    assert!(
        outcome.stderr.contains("stopped after step"),
        "{}",
        outcome.stderr
    );
    let saved = std::fs::read_dir(folder.path("run/checkpoints")).unwrap();
    assert_eq!(saved.count(), 1);
}

#[test]
fn processes_that_were_not_told_of_each_other_are_refused() {
    let folder = folder();
    let mut mpirun = Command::new("mpirun");
    mpirun.args(words("--allow-run-as-root --oversubscribe -n 2"));
    mpirun
        .arg(crate::command::binary("train"))
        .args(words("--recipe recipe.toml"));
    let outcome = mpirun.current_dir(folder.path("")).output().unwrap();
    Outcome::of(outcome).refused(&["2 processes were started", "--dist mpi"]);
    assert!(!folder.path("runs").exists());
}
