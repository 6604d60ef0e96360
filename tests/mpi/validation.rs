//! A run that is validated on the way: the processes share the images out, the first one's metrics count.

use crate::command::{Folder, words};
use crate::launch::{RECIPE, train};
use serde_json::Value;

const VALIDATION: &str = r#"
[[validation.zero_shot]]
name = "classes"
dataset = "folder"
root = "classes/images"
classnames = "classes/classnames.txt"
templates = "classes/templates.txt"
[[validation.retrieval]]
name = "pairs"
format = "karpathy"
split = "val"
images = "pairs/images"
annotations = "pairs/dataset_scenes.json"
"#;

/// The metrics of every validation of a run, by step.
fn validated(folder: &Folder, run: &str) -> Vec<(u64, serde_json::Map<String, Value>)> {
    let log = std::fs::read_to_string(folder.path(&format!("{run}/metrics.jsonl"))).unwrap();
    let entries = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let entries = entries.filter(|entry| entry["kind"] == "validation");
    let values = |e: Value| {
        (
            e["step"].as_u64().unwrap(),
            e["values"].as_object().unwrap().clone(),
        )
    };
    entries.map(values).collect()
}

#[test]
fn three_processes_rate_a_model_as_one_does_and_keep_the_same_best_checkpoint() {
    let folder = Folder::new();
    folder.write("recipe.toml", format!("{RECIPE}{VALIDATION}"));
    let world =
        "--split validation --images 25 --image-size 32 --shapes 2 --colours 3 --max-objects 1";
    for (format, out) in [("imagenet", "classes"), ("karpathy", "pairs")] {
        let line = format!("--format {format} --out {out} {world}");
        folder.run("scenes", &words(&line)).succeeded();
    }
    let best = "log.validate_every=4 checkpoint.every=100 checkpoint.keep=1 checkpoint.best=pairs_image_retrieval_recall@5";
    train(
        &folder,
        1,
        &format!("run.out=one data.loader.batch_size=9 {best}"),
    )
    .succeeded();
    train(
        &folder,
        3,
        &format!("run.out=three data.loader.batch_size=3 {best}"),
    )
    .succeeded();
    let (one, three) = (validated(&folder, "one"), validated(&folder, "three"));
    assert_eq!(one.len(), 5);
    assert_eq!(one.len(), three.len());
    for ((step, want), (also, got)) in one.iter().zip(&three) {
        assert_eq!(step, also);
        assert!(want.keys().any(|name| name.starts_with("classes_acc1")));
        for (name, value) in want {
            let (want, got) = (value.as_f64().unwrap(), got[name].as_f64().unwrap());
            assert!(
                (want - got).abs() < 1e-9,
                "step {step}, {name}: {got} where one process finds {want}"
            );
        }
    }
    let saved = |run: &str| {
        let entries = std::fs::read_dir(folder.path(&format!("{run}/checkpoints"))).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(saved("three"), saved("one"));
}

/// One process cannot read an image of the validation set that the other does not look at.
#[test]
fn a_validation_that_fails_on_one_process_ends_both() {
    let folder = Folder::new();
    folder.write(
        "recipe.toml",
        format!(
            "{RECIPE}{}",
            VALIDATION.split("[[validation.retrieval]]").next().unwrap()
        ),
    );
    let line = "--format imagenet --out classes --split validation --images 24 --image-size 32 --shapes 2 --colours 3 --max-objects 1";
    folder.run("scenes", &words(line)).succeeded();
    let images = std::fs::read_dir(folder.path("classes/images")).unwrap();
    let mut classes: Vec<_> = images.map(|entry| entry.unwrap().path()).collect();
    classes.sort();
    let last = std::fs::read_dir(classes.last().unwrap())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(&last, "no image").unwrap();
    let outcome = train(&folder, 2, "run.out=run data.loader.batch_size=4");
    let name = last.file_name().unwrap().to_string_lossy().into_owned();
    outcome.refused(&["validating", &name]);
}
