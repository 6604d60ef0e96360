//! Work without gradients: each process does its share, the first puts them together.

use crate::command::{Folder, Outcome, binary, words};
use std::process::Command;

fn run(folder: &Folder, processes: usize, example: &str, line: &str) -> Outcome {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(words("--allow-run-as-root --oversubscribe -n"));
    mpirun.arg(processes.to_string()).arg(binary(example));
    mpirun
        .args(words(line))
        .args(words("--dist mpi --dist-timeout 20"));
    Outcome::of(mpirun.current_dir(folder.path("")).output().unwrap())
}

fn bytes(folder: &Folder, name: &str) -> Vec<u8> {
    std::fs::read(folder.path(name)).unwrap()
}

#[test]
fn three_processes_embed_what_one_does_to_the_last_bit() {
    let folder = Folder::new();
    let scenes = "--format imagenet --images 70 --image-size 32 --out world";
    folder.run("scenes", &words(scenes)).succeeded();
    folder.write("texts.txt", "a red circle\ntwo blue squares\na cat\n");
    let line = "--model tiny --images world --texts texts.txt --batch-size 8";
    folder
        .run("embed", &words(&format!("{line} --out one.safetensors")))
        .succeeded();
    run(
        &folder,
        3,
        "embed",
        &format!("{line} --out three.safetensors"),
    )
    .succeeded();
    assert_eq!(
        bytes(&folder, "three.safetensors"),
        bytes(&folder, "one.safetensors")
    );
    let left: Vec<_> = folder
        .names()
        .into_iter()
        .filter(|name| name.contains("shard"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_error_of_one_process_ends_the_work_of_all() {
    let folder = Folder::new();
    folder.image("a.png", [32, 32], 1);
    let line = "--model nothing --images a.png --out out.safetensors";
    run(&folder, 2, "embed", line).refused(&["nothing"]);
    let both = "--model tiny --images a.png --out out.safetensors --shard 0/2";
    run(&folder, 2, "embed", both).refused(&["--dist mpi and --shard 0/2"]);
    assert!(!folder.path("out.safetensors").exists());
}

#[test]
fn two_processes_store_the_vectors_that_one_does() {
    let folder = Folder::new();
    let scenes =
        "--format webdataset --split train --images 12 --image-size 24 --shard-size 5 --out shards";
    folder.run("scenes", &words(scenes)).succeeded();
    let llm = tests::fixture("llm/encoder/cc").display().to_string();
    let line =
        format!("--llm {llm} --input shards/{{00000..00002}}.tar --fields web,synthetic --part 4");
    folder
        .run("embed_captions", &words(&format!("{line} --out one")))
        .succeeded();
    run(&folder, 2, "embed_captions", &format!("{line} --out two")).succeeded();
    let names = |store: &str| {
        let entries = std::fs::read_dir(folder.path(store)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("two"), names("one"));
    for name in names("one") {
        let name = name.to_string_lossy();
        let of = |store: &str| bytes(&folder, &format!("{store}/{name}"));
        assert_eq!(of("two"), of("one"), "{name}");
    }
}

#[test]
fn two_processes_share_the_runs_of_an_evaluation() {
    let folder = Folder::new();
    for i in 0..4 {
        folder.image(
            &format!("set/val/{}/{i}.png", ["red", "blue"][i % 2]),
            [24, 24],
            i as u32,
        );
    }
    let line = "zero-shot --model tiny --seed 1 --dataset folder --root set --templates openai80 --language en,it \
                --output {language}.json";
    run(&folder, 2, "eval", line).succeeded();
    for language in ["en", "it"] {
        assert!(
            folder.path(&format!("{language}.json")).exists(),
            "{language}"
        );
    }
}
