//! `search`: what is found, indexes that are brought up to date, and files that are none.

use crate::command::{Folder, Outcome, run_in, words};
use crate::features::{Features, assert_close};
use clip_burn::clip::checkpoint::{HostTensor, StateDict, write_safetensors};
use serde_json::Value;

/// Three images and their index, by a tiny model of random weights.
fn indexed() -> Folder {
    let folder = Folder::new();
    for (seed, name) in ["p/a.png", "p/b.png", "p/c/d.jpg"].iter().enumerate() {
        folder.image(name, [40, 50], seed as u32);
    }
    build(&folder, "").succeeded();
    folder
}

#[track_caller]
fn build(folder: &Folder, more: &str) -> Outcome {
    let model = if more.contains("--model") {
        ""
    } else {
        "--model tiny"
    };
    let line = format!("build {model} --images p --out index.safetensors {more}");
    folder.run("search", &words(&line))
}

/// Searches with options of a line, and queries.
#[track_caller]
fn search(folder: &Folder, line: &str, queries: &[&str]) -> Outcome {
    let mut arguments = words(line);
    arguments.extend(queries.iter().map(|query| query.to_string()));
    folder.run("search", &arguments)
}

fn json(outcome: Outcome) -> Vec<Value> {
    let lines = outcome.succeeded().stdout;
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn paths(found: &Value) -> Vec<&str> {
    let hits = found["hits"].as_array().unwrap();
    hits.iter()
        .map(|hit| hit["path"].as_str().unwrap())
        .collect()
}

#[test]
fn an_image_is_the_nearest_to_itself_and_cosines_are_those_of_embed() {
    let folder = indexed();
    folder.write("texts.txt", "a cat\n");
    let line = "--model tiny --images p --texts texts.txt --out e.safetensors";
    folder.run("embed", &words(line)).succeeded();
    let embedded = Features::read(&folder.path("e.safetensors"));
    let index = Features::read(&folder.path("index.safetensors"));
    assert_eq!(index.list("image_paths"), embedded.list("image_paths"));
    for name in ["image_features", "logit_scale"] {
        assert_close(name, &index.values(name), &embedded.values(name), 1e-6);
    }

    let found = json(search(
        &folder,
        "--index index.safetensors --json --image p/b.png --image p/a.png",
        &["a cat"],
    ));
    assert_eq!(found.len(), 3);
    // Texts first, then pictures.
    assert_eq!(found[0]["text"], "a cat");
    assert_eq!(found[1]["image"], "p/b.png");
    assert_eq!(paths(&found[1])[0], "p/b.png");
    assert_eq!(paths(&found[2])[0], "p/a.png");
    let text = &embedded.rows("text_features")[0];
    for (rank, hit) in (1..).zip(found[0]["hits"].as_array().unwrap()) {
        assert_eq!(hit["rank"], rank);
        let row = &embedded.rows("image_features")[hit["row"].as_u64().unwrap() as usize];
        let cosine: f32 = row.iter().zip(text).map(|(a, b)| a * b).sum();
        assert_close(
            "cosine",
            &[hit["score"].as_f64().unwrap() as f32],
            &[cosine],
            1e-6,
        );
    }
}

#[test]
fn the_table_lists_the_best_of_every_query_and_the_page_stands_alone() {
    let folder = indexed();
    let line = "--index index.safetensors --top-k 2 --html found.html";
    // A word that is a command elsewhere is a query here.
    let table = search(&folder, line, &["a <red> bicycle", "build"])
        .succeeded()
        .stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 6, "{table}");
    assert_eq!((lines[0], lines[3]), ("a <red> bicycle", "build"));
    for (rank, line) in [
        ("1", lines[1]),
        ("2", lines[2]),
        ("1", lines[4]),
        ("2", lines[5]),
    ] {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((cells[0], cells.len()), (rank, 3), "{line}");
        assert!(cells[2].starts_with("p/"), "{line}");
    }
    let page = std::fs::read_to_string(folder.path("found.html")).unwrap();
    assert!(page.contains("a &lt;red&gt; bicycle"));
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 4);
    assert!(!page.contains("http") && !page.contains("<script"));
}

#[test]
fn an_index_follows_its_folder() {
    let folder = indexed();
    let before = std::fs::read(folder.path("index.safetensors")).unwrap();
    let same = build(&folder, "").succeeded().stdout;
    assert!(same.contains("3 images, nothing has changed"), "{same}");
    assert_eq!(
        std::fs::read(folder.path("index.safetensors")).unwrap(),
        before
    );

    std::fs::remove_file(folder.path("p/a.png")).unwrap();
    folder.image("p/b.png", [90, 33], 7);
    folder.image("p/aa.png", [32, 32], 8);
    folder.write("p/cut.jpg", "no photo");
    let outcome = build(&folder, "").said(&["cut.jpg", "1 of 4 images could not be read"]);
    assert_eq!(outcome.code, Some(2));
    let said = "3 images; 2 came, 1 changed, 1 went";
    assert!(outcome.stdout.contains(said), "{}", outcome.stdout);

    // As if it had been made at once.
    folder
        .run("embed", &words("--model tiny --images p --out e"))
        .said(&["cut.jpg"]);
    let [index, whole] = ["index.safetensors", "e"].map(|name| Features::read(&folder.path(name)));
    assert_eq!(
        index.list("image_paths"),
        ["p/aa.png", "p/b.png", "p/c/d.jpg"]
    );
    assert_eq!(index.list("image_paths"), whole.list("image_paths"));
    let name = "image_features";
    assert_close(name, &index.values(name), &whole.values(name), 1e-6);
}

#[test]
fn a_run_that_was_killed_goes_on_where_it_was() {
    let folder = Folder::new();
    for seed in 0..40 {
        folder.image(&format!("p/{seed:02}.png"), [40, 50], seed);
    }
    folder.write("p/10_cut.jpg", "no photo");
    let line = "build --model tiny --images p --out i --save-every 2 --batch-size 1";
    folder.kill_or_end("search", &words(line), || folder.path("i.begun").exists());
    let was_killed = folder.path("i.begun").exists();
    assert!(
        was_killed || folder.path("i").exists(),
        "one of the two is there"
    );
    let outcome = folder
        .run("search", &words(line))
        .said(&["cut.jpg", "1 of 41 images"]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        !was_killed || outcome.stderr.contains("goes on with"),
        "{}",
        outcome.stderr
    );
    assert!(!folder.path("i.begun").exists());
    assert_eq!(
        outcome.stderr.matches("left out").count(),
        1,
        "{}",
        outcome.stderr
    );
    // As if it had been made at once.
    folder.run(
        "search",
        &words("build --model tiny --images p --out at_once"),
    );
    let [parts, once] = ["i", "at_once"].map(|name| Features::read(&folder.path(name)));
    assert_eq!(parts.list("image_paths"), once.list("image_paths"));
    assert_eq!(parts.list("image_paths").len(), 40);
    let name = "image_features";
    assert_close(name, &parts.values(name), &once.values(name), 1e-6);

    // What is left of a run with another model is none of this one's.
    std::fs::rename(folder.path("i"), folder.path("i.begun")).unwrap();
    let line = "build --model tiny --seed 1 --images p --out i";
    let outcome = folder.run("search", &words(line)).said(&["cut.jpg"]);
    assert!(!outcome.stderr.contains("goes on"), "{}", outcome.stderr);
    assert!(!folder.path("i.begun").exists());
}

#[test]
fn the_model_is_the_indexs_own_and_another_one_is_refused() {
    let folder = indexed();
    let line = "--index index.safetensors --json";
    let own = json(search(&folder, line, &["a cat"]));
    let given = json(search(&folder, &format!("{line} --model tiny"), &["a cat"]));
    assert_eq!(own, given);
    let other = format!("{line} --model tiny --seed 1");
    search(&folder, &other, &["a cat"]).refused(&["index.safetensors", "the model tiny", "others"]);
    build(&folder, "--seed 1").refused(&["index.safetensors", "the model tiny", "others"]);
    // An option without the model that it belongs to.
    search(&folder, &format!("{line} --seed 1"), &["a cat"]).refused(&["--model tiny"]);
    // Rounding does not make another model.
    search(&folder, &format!("{line} --precision bf16"), &["a cat"]).succeeded();

    // A model on disk is found from another directory, and so are the images.
    folder.tiny_model("models/mine");
    std::fs::remove_file(folder.path("index.safetensors")).unwrap();
    build(&folder, "--model models/mine").succeeded();
    std::fs::create_dir(folder.path("elsewhere")).unwrap();
    let there = folder.path("elsewhere");
    let line = "--index ../index.safetensors --json --html found.html --image ../p/b.png";
    let outcome = run_in(&there, "search", &words(line)).succeeded();
    assert!(outcome.stderr.is_empty() || !outcome.stderr.contains("RANDOM"));
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(paths(&found)[0], folder.path("p/b.png").to_str().unwrap());
    let page = std::fs::read_to_string(there.join("found.html")).unwrap();
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 4);
    // A model that was moved is named, and is the same.
    std::fs::rename(folder.path("models/mine"), folder.path("models/moved")).unwrap();
    let line = "--index index.safetensors --json";
    search(&folder, line, &["x"]).refused(&[
        "index.safetensors was made with",
        "models/mine",
        "give --model",
    ]);
    search(&folder, &format!("{line} --model models/moved"), &["x"]).succeeded();
    std::fs::rename(folder.path("models/moved"), folder.path("models/mine")).unwrap();
    // Nothing of it must be embedded again.
    let line = "build --model ../models/mine --images ../p --out ../index.safetensors";
    let same = run_in(&there, "search", &words(line)).succeeded();
    assert!(
        same.stdout.contains("nothing has changed"),
        "{}",
        same.stdout
    );
}

#[test]
fn what_embed_writes_is_searched_with_a_model_that_is_named() {
    let folder = indexed();
    let line = "--model tiny --images p --no-normalize --out e.safetensors";
    folder.run("embed", &words(line)).succeeded();
    let of = |line: &str| search(&folder, line, &["a cat"]);
    of("--index e.safetensors").refused(&["e.safetensors", "--model"]);
    let found = json(of("--index e.safetensors --json --model tiny"));
    // Its rows have any length, and the cosines are the same.
    let indexed = json(of("--index index.safetensors --json"));
    assert_eq!(paths(&found[0]), paths(&indexed[0]));
    for (a, b) in found[0]["hits"]
        .as_array()
        .unwrap()
        .iter()
        .zip(indexed[0]["hits"].as_array().unwrap())
    {
        assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-5);
    }
    // It may hold texts too, and is nobody's index.
    let line = "build --model tiny --images p --out e.safetensors";
    folder
        .run("search", &words(line))
        .refused(&["e.safetensors", "another file"]);
}

#[test]
fn wrong_widths_files_and_options_are_refused() {
    let folder = indexed();
    let vector = |values: &[f32], name: &str| {
        let mut dict = StateDict::default();
        let rows = HostTensor::from_values(values.to_vec(), [1, values.len()]);
        dict.insert("image_features", rows);
        write_safetensors(&folder.path(name), &dict).unwrap();
    };
    vector(&[1.0, 2.0], "narrow");
    vector(&[f32::NAN; 32], "nan");
    folder.write("letter", "Dear reader");
    folder.write("empty", "");
    let of = |index: &str| search(&folder, &format!("--index {index} --model tiny"), &["x"]);
    of("narrow").refused(&["narrow", "rows have 2 numbers, queries 32"]);
    of("nan").refused(&["nan", "row 0"]);
    of("letter").refused(&["letter", "not a safetensors file", "search build"]);
    of("empty").refused(&["empty", "not a safetensors file", "search build"]);
    of("gone").refused(&["gone"]);
    search(&folder, "--index index.safetensors", &[]).refused(&["QUERIES"]);
    search(&folder, "", &["a cat"]).refused(&["--index"]);
    search(&folder, "--index index.safetensors --top-k 0", &["x"]).refused(&["--top-k"]);
    search(&folder, "--index index.safetensors --image gone.png", &[]).refused(&["gone.png"]);
    let line = "--index index.safetensors --html no/such/folder.html";
    search(&folder, line, &["x"]).refused(&["no/such/folder.html"]);
    // A damaged index is not overwritten.
    folder.write("index.safetensors", "Dear reader");
    build(&folder, "").refused(&["index.safetensors", "remove"]);
    assert_eq!(
        std::fs::read(folder.path("index.safetensors")).unwrap(),
        b"Dear reader"
    );
}
