//! Work in shares: what processes of a job array make, killed or not, is put together to what one process makes.

use crate::command::{Folder, Outcome, words};
use clip_burn::clip::checkpoint::{HostTensor, StateDict, write_safetensors};
use std::time::{Duration, Instant};

/// A thousand scenes with a caption each, and an image that is none.
fn scenes() -> Folder {
    let folder = Folder::new();
    let line = "--format cc3m --images 1000 --image-size 24 --out scenes";
    folder.run("scenes", &words(line)).succeeded();
    folder.write("scenes/images/test-0000600.png", "no image");
    folder
}

const EMBED: &str =
    "--model tiny --images scenes/images --texts scenes/cc3m_chatgpt.txt --batch-size 16";

fn embed(folder: &Folder, more: &str) -> Outcome {
    folder.run("embed", &words(&format!("{EMBED} {more}")))
}

#[track_caller]
fn assert_same(folder: &Folder, a: &str, b: &str) {
    let read = |name: &str| std::fs::read(folder.path(name)).unwrap();
    assert!(read(a) == read(b), "{a} and {b} differ");
}

#[test]
fn embeddings_of_four_shares_one_of_them_killed_are_those_of_one_process() {
    let folder = scenes();
    assert_eq!(embed(&folder, "--out one.safetensors").code, Some(2));
    let (share, line) = (
        folder.path("e.shard-2-of-4.safetensors"),
        words(&format!("{EMBED} --out e.safetensors --shard 2/4")),
    );
    // Killed later and later, until it is done before it is killed.
    let (mut killed, mut wait) = (0, Duration::from_millis(10));
    while !share.exists() {
        let start = Instant::now();
        folder.kill_or_end("embed", &line, || start.elapsed() > wait);
        killed += 1;
        wait *= 2;
    }
    assert!(killed > 1, "it was never killed");
    for (i, code) in [0, 0, 2, 0].into_iter().enumerate() {
        let outcome = embed(&folder, &format!("--out e.safetensors --shard {i}/4"));
        assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
        // Repeated, it is not made again, and still says what was left out.
        let made = std::fs::metadata(folder.path(&format!("e.shard-{i}-of-4.safetensors")));
        let outcome = embed(&folder, &format!("--out e.safetensors --shard {i}/4"));
        let outcome = outcome.said(&["is there already"]);
        assert_eq!(outcome.code, Some(code));
        assert_eq!(outcome.stderr.contains("0000600.png"), code == 2);
        let now = std::fs::metadata(folder.path(&format!("e.shard-{i}-of-4.safetensors")));
        assert_eq!(
            made.unwrap().modified().unwrap(),
            now.unwrap().modified().unwrap()
        );
    }
    let outcome = folder.run("embed", &["merge", "e.safetensors"]);
    let outcome = outcome.said(&[
        "999 images and 1000 texts of 4 shares",
        "left out",
        "test-0000600.png",
        "1 of 1000 images could not be read",
    ]);
    assert_eq!(outcome.code, Some(2));
    assert_same(&folder, "one.safetensors", "e.safetensors");
}

#[test]
fn pixels_are_shared_out_as_images_are() {
    let folder = Folder::new();
    let values = (0..5 * 3 * 32 * 32).map(|i| (i % 97) as f32 / 97.0 - 0.5);
    let mut dict = StateDict::default();
    dict.insert(
        "pixels",
        HostTensor::from_values(values.collect(), [5, 3, 32, 32]),
    );
    write_safetensors(&folder.path("pixels.safetensors"), &dict).unwrap();
    let embed = |more: &str| {
        let line = format!("--model tiny --pixels pixels.safetensors --batch-size 2 {more}");
        folder.run("embed", &words(&line)).succeeded()
    };
    embed("--out one.safetensors");
    (0..2).for_each(|i| drop(embed(&format!("--out e.safetensors --shard {i}/2"))));
    let merged = folder.run("embed", &["merge", "e.safetensors"]).succeeded();
    merged.said(&["5 images and 0 texts of 2 shares"]);
    assert_same(&folder, "one.safetensors", "e.safetensors");
}

#[test]
fn gaps_doubles_and_foreign_shares_of_embeddings_are_refused_by_name() {
    let folder = Folder::new();
    folder.write("texts.txt", "a cat\na dog\na bird\n");
    folder.write("other.txt", "a cat\na dog\na fish\n");
    let embed = |more: &str| {
        let line = format!("--model tiny --batch-size 1 --out e.safetensors {more}");
        folder.run("embed", &words(&line))
    };
    let merge = || folder.run("embed", &["merge", "e.safetensors"]);
    merge().refused(&["e.safetensors", "no shares"]);
    embed("--texts texts.txt --shard 0/3").succeeded();
    embed("--texts texts.txt --shard 2/3").succeeded();
    merge().refused(&["1 of 3 shares", "e.shard-1-of-3.safetensors", "--shard 1/3"]);
    let path = |i: usize| folder.path(&format!("e.shard-{i}-of-3.safetensors"));
    std::fs::copy(path(2), path(1)).unwrap();
    merge().refused(&["e.shard-1-of-3", "e.shard-2-of-3", "both hold share 2/3"]);
    // The wrong share is not taken for the right one.
    embed("--texts texts.txt --shard 1/3").refused(&["share 2/3, not 1/3", "overwrite"]);
    for (other, said) in [
        ("--batch-size 1 --texts other.txt", "another list"),
        ("--batch-size 1 --texts texts.txt --seed 1", "another model"),
        (
            "--batch-size 1 --texts texts.txt --no-normalize",
            "normalize false, not true",
        ),
        ("--batch-size 2 --texts texts.txt", "batch_size 2, not 1"),
    ] {
        let line = format!("--model tiny --out e.safetensors --shard 1/3 --overwrite {other}");
        folder.run("embed", &words(&line)).succeeded();
        merge().refused(&["e.shard-1-of-3.safetensors", "e.shard-0-of-3", said]);
        embed("--texts texts.txt --shard 1/3").refused(&["e.shard-1-of-3", "overwrite"]);
    }
    embed("--texts texts.txt --shard 1/3 --overwrite").succeeded();
    merge().succeeded();
    embed("--texts texts.txt").succeeded();
    let whole = std::fs::read(folder.path("e.safetensors")).unwrap();
    merge().succeeded();
    assert!(whole == std::fs::read(folder.path("e.safetensors")).unwrap());
    embed("--texts texts.txt --shard 3/3").refused(&["3/3", "the last of 3 is 2/3"]);
    embed("--texts texts.txt --shard two").refused(&["two", "i/n"]);
    embed("--texts texts.txt --overwrite").refused(&["--overwrite", "shares"]);
    folder.run("embed", &["merge"]).refused(&["WHOLE"]);
}

#[test]
fn rewrites_of_three_shares_one_of_them_killed_are_those_of_one_process() {
    let folder = Folder::new();
    let captions: Vec<String> = (0..60).map(|i| format!("a photo of {i} dogs")).collect();
    folder.write("in.txt", captions.join("\n") + "\n");
    let fixtures = tests::fixture("llm");
    let copy = |name: &str| folder.write(name, std::fs::read(fixtures.join(name)).unwrap());
    copy("tokenizer.model");
    for entry in fixtures.join("llama2").read_dir().unwrap() {
        copy(&format!(
            "llama2/{}",
            entry.unwrap().file_name().to_string_lossy()
        ));
    }
    let base =
        "--llm llama2 --input in.txt --mode coco --max-seq-len 600 --max-gen-len 8 --batch-size 4";
    let rewrite = |more: &str| folder.run("rewrite", &words(&format!("{base} {more}")));
    rewrite("--output one.txt").succeeded();
    let share = |i: usize| format!("--output out.txt --shard {i}/3 --resume");
    folder.kill_when("rewrite", &words(&format!("{base} {}", share(1))), || {
        let written = std::fs::read_to_string(folder.path("out.shard-1-of-3.txt"));
        written.unwrap_or_default().lines().count() >= 4
    });
    rewrite(&share(0)).succeeded();
    rewrite(&share(2)).succeeded();
    let merge = || folder.run("rewrite", &["merge", "out.txt"]);
    merge().refused(&["out.shard-1-of-3.txt", "of its 20 lines", "--resume"]);
    rewrite(&share(1)).succeeded();
    rewrite(&share(1))
        .succeeded()
        .said(&["all 20 lines were there"]);
    merge().succeeded().said(&["out.txt: 60 lines of 3 shares"]);
    assert_same(&folder, "one.txt", "out.txt");
    assert_same(&folder, "one.txt.run.json", "out.txt.run.json");
}

#[test]
fn vectors_of_captions_in_three_shares_one_of_them_killed_are_those_of_one_process() {
    let folder = Folder::new();
    let line =
        "--format webdataset --split train --images 24 --image-size 24 --shard-size 5 --out shards";
    folder.run("scenes", &words(line)).succeeded();
    let llm = tests::fixture("llm/encoder/cc").display().to_string();
    let base = format!("--llm {llm} --input shards/{{00000..00004}}.tar --fields web,synthetic");
    let embed = |more: &str| folder.run("embed_captions", &words(&format!("{base} {more}")));
    let store = |more: &str| embed(&format!("--part 1 --batch-size 1 {more}"));
    store("--out one").succeeded();
    let line = format!("{base} --part 1 --batch-size 1 --out store --shard 1/3");
    folder.kill_or_end("embed_captions", &words(&line), || {
        folder.path("store/00008.safetensors").exists()
    });
    store("--out store --shard 0/3")
        .succeeded()
        .said(&["share 0/3 of 24 samples, 8", "16 vectors made"]);
    store("--out store --shard 2/3").succeeded();
    let merge = || folder.run("embed_captions", &["merge", "store"]);
    let killed = !folder.path("store/store.shard-1-of-3.json").exists();
    assert!(killed, "the kill came too late");
    merge().refused(&["store", "store.shard-1-of-3.json (--shard 1/3)"]);
    store("--out store --shard 1/3").succeeded();
    store("--out store --shard 1/3")
        .succeeded()
        .said(&["0 vectors made"]);
    merge()
        .succeeded()
        .said(&["[web, synthetic] of 24 samples, 0 of them unreadable, by 3 shares"]);
    let names = |name: &str| {
        let entries = folder.path(name).read_dir().unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| !name.to_string_lossy().ends_with(".partial"));
        names.sort();
        names
    };
    assert_eq!(names("one"), names("store"));
    for name in names("one") {
        let name = name.to_string_lossy();
        assert_same(&folder, &format!("one/{name}"), &format!("store/{name}"));
    }
    // Siblings of shards need no merging: every process takes some of the shards.
    for i in 0..3 {
        let said = ["1 tars of 5", "2 tars of 10", "2 tars of 9"][i];
        let line = format!("--format tar --out tars --shard {i}/3");
        embed(&line).succeeded().said(&[said]);
    }
    embed("--format tar --out whole").succeeded();
    assert_eq!(names("tars"), names("whole"));
    for name in names("whole") {
        let name = name.to_string_lossy();
        assert_same(&folder, &format!("whole/{name}"), &format!("tars/{name}"));
    }
}

#[test]
fn every_process_does_some_runs_of_a_grid_and_together_they_do_all() {
    let folder = Folder::new();
    for name in ["a", "b", "c"] {
        let line = format!(
            "--format imagenet --out data/{name} --image-size 32 --shapes 2 --colours 3 --max-objects 1 --images 12"
        );
        folder.run("scenes", &words(&line)).succeeded();
    }
    folder.tiny_model("m");
    let eval = |output: &str, more: &str| {
        let line = format!(
            "zero-shot --model tiny,m --dataset folder/a,folder/b,folder/c --root data/{{dataset}}/images \
             --output {output}/{{model}}_{{dataset}}.json {more}"
        );
        folder.run("eval", &words(&line))
    };
    eval("one", "").succeeded();
    for i in 0..4 {
        eval("r", &format!("--shard {i}/4")).succeeded();
        let done = folder.path("r").read_dir().unwrap().count();
        assert_eq!(done, [2, 4, 5, 6][i], "after share {i}/4");
    }
    for entry in folder.path("one").read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert_same(&folder, &format!("one/{name}"), &format!("r/{name}"));
    }
    // A share that was killed, or is repeated, does what is missing; so does the command without a share.
    std::fs::remove_file(folder.path("r/tiny_folder_b.json")).unwrap();
    folder.run("eval", &["report", "r"]).succeeded();
    let page = std::fs::read_to_string(folder.path("report.html")).unwrap();
    assert!(page.contains("–</td>"), "the overview shows the gap");
    eval("r", "--shard 0/4 --skip-existing")
        .succeeded()
        .said(&["2 runs left out"]);
    let rest = eval("r", "--skip-existing")
        .succeeded()
        .said(&["5 runs left out"]);
    assert!(rest.stdout.contains("folder/b · tiny"), "{}", rest.stdout);
}
