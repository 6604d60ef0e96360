//! `classify`: the table, and JSON.

use crate::command::{Folder, words};
use serde_json::Value;

const LABELS: [&str; 4] = ["--labels", "a diagram", "a dog", "a cat"];

#[test]
fn the_table_lists_all_labels_from_likely_to_unlikely() {
    let folder = Folder::new();
    folder.image("a.png", [40, 40], 1);
    folder.image("b.png", [40, 40], 2);
    let mut arguments = words("--model tiny --images a.png b.png");
    arguments.extend(LABELS.map(Into::into));
    let table = folder.run("classify", &arguments).succeeded().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 8, "{table}");
    assert_eq!((lines[0], lines[4]), ("a.png", "b.png"));
    for rows in [&lines[1..4], &lines[5..8]] {
        let percents: Vec<f64> = rows
            .iter()
            .map(|row| row.split('%').next().unwrap().trim().parse().unwrap())
            .collect();
        assert!(percents.is_sorted_by(|a, b| a >= b), "{percents:?}");
        assert!(
            (percents.iter().sum::<f64>() - 100.0).abs() < 0.02,
            "{percents:?}"
        );
        for label in &LABELS[1..] {
            assert!(rows.iter().any(|row| row.ends_with(label)), "{table}");
        }
    }
}

#[test]
fn json_has_one_object_per_image_and_the_template_matters() {
    let folder = Folder::new();
    folder.image("a.png", [40, 40], 1);
    folder.image("b.png", [40, 40], 2);
    let run = |template: &str| {
        let mut arguments = words("--model tiny --json --images a.png b.png");
        arguments.extend(["--template".into(), template.into()]);
        arguments.extend(LABELS.map(Into::into));
        let json = folder.run("classify", &arguments).succeeded().stdout;
        let objects = json.lines().map(|line| serde_json::from_str(line).unwrap());
        objects.collect::<Vec<Value>>()
    };
    let objects = run("a photo of {}.");
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[1]["image"], "b.png");
    for object in &objects {
        let scores = object["scores"].as_array().unwrap();
        let probabilities = scores.iter().map(|s| s["probability"].as_f64().unwrap());
        assert!((probabilities.sum::<f64>() - 1.0).abs() < 1e-5, "{object}");
        let mut labels: Vec<_> = scores
            .iter()
            .map(|s| s["label"].as_str().unwrap())
            .collect();
        labels.sort();
        assert_eq!(labels, ["a cat", "a diagram", "a dog"]);
    }
    assert_ne!(objects, run("{}"));
}
