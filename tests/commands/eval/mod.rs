//! `eval`: results of every task, tables, reports, and input that is wrong.

mod bad_input;
mod classification;
mod collections;
mod probes;
mod results;
mod retrieval;

use serde_json::Value;

use crate::command::{Folder, Outcome, words};

/// Runs `eval` with the arguments of a line.
#[track_caller]
pub fn eval(folder: &Folder, line: &str) -> Outcome {
    folder.run("eval", &words(line))
}

/// A JSON file of a test.
#[track_caller]
pub fn json(folder: &Folder, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A metric that is a number.
#[track_caller]
pub fn metric(result: &Value, name: &str) -> f64 {
    result["metrics"][name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name} in {}", result["metrics"]))
}

/// `NAME/images/cNNN/*.png`, class names and templates.
pub fn classes(folder: &Folder, name: &str, more: &str) {
    let small = "--image-size 32 --shapes 2 --colours 3 --max-objects 1";
    let line = format!("--format imagenet --out {name} {small} {more}");
    folder.run("scenes", &words(&line)).succeeded();
}

/// `NAME/images/*.png` and `NAME/dataset_scenes.json` with five captions per image.
pub fn pairs(folder: &Folder, name: &str, images: usize) {
    let line = format!("--format karpathy --out {name} --image-size 32 --images {images}");
    folder.run("scenes", &words(&line)).succeeded();
}
