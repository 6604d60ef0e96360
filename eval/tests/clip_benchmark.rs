//! The same embeddings give the same numbers as CLIP_benchmark 1.6.2.
//!
//! Fixture: `tests/reference/eval_clip_benchmark.py fixture`.

use std::path::PathBuf;

use eval::datasets::Labels;
use eval::metrics::retrieval::Matches;
use eval::prompts::ClassName;
use eval::results::Metrics;
use eval::tasks::retrieval::score;
use eval::tasks::zero_shot::classify;
use eval::{Extraction, Features};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    classes: usize,
    templates: usize,
    captions: usize,
    labels: Vec<usize>,
    relevant: Vec<Vec<u8>>,
    single: Metrics,
    multi: Metrics,
    retrieval: Metrics,
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

fn expected() -> Expected {
    let text = std::fs::read_to_string(fixture("eval_clip_benchmark.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn features(name: &str) -> Features {
    Features::open(&fixture("eval_clip_benchmark.safetensors"), name).unwrap()
}

fn assert_equal(got: &Metrics, want: &Metrics) {
    assert!(!want.is_empty());
    for (name, want) in want {
        let (got, want) = (got[name].as_f64().unwrap(), want.as_f64().unwrap());
        assert!(
            (got - want).abs() < 1e-6,
            "{name}: {got}, CLIP_benchmark {want}"
        );
    }
}

/// The classifier through the public ensemble: prompts of class `c` are rows `c * templates..`.
fn classifier(expected: &Expected) -> Features {
    let ends: Vec<usize> = (1..=expected.classes)
        .map(|c| c * expected.templates)
        .collect();
    eval::classifier::ensemble(&features("prompts"), &ends).unwrap()
}

fn names(expected: &Expected) -> Vec<ClassName> {
    (0..expected.classes)
        .map(|c| format!("class {c}").into())
        .collect()
}

#[test]
fn accuracy_and_mean_per_class_recall_are_clip_benchmarks() {
    let expected = expected();
    let labels = Labels::Single(expected.labels.clone());
    let outcome = classify(
        &features("images"),
        &classifier(&expected),
        &labels,
        &names(&expected),
    )
    .unwrap();
    assert_equal(&outcome.metrics, &expected.single);
}

#[test]
fn mean_average_precision_is_clip_benchmarks() {
    let expected = expected();
    let relevant = expected
        .relevant
        .iter()
        .flatten()
        .map(|&r| r == 1)
        .collect();
    let labels = Labels::Multi {
        classes: expected.classes,
        relevant,
    };
    let outcome = classify(
        &features("images"),
        &classifier(&expected),
        &labels,
        &names(&expected),
    )
    .unwrap();
    assert_equal(&outcome.metrics, &expected.multi);
}

#[test]
fn recall_with_five_captions_per_image_is_clip_benchmarks() {
    let expected = expected();
    let (images, texts) = (features("images"), features("captions"));
    let owners: Vec<usize> = (0..texts.len()).map(|t| t / expected.captions).collect();
    let matches = Matches::of_owners(&owners, images.len()).unwrap();
    let (metrics, _) = score(
        &texts,
        &images,
        &matches,
        &[1, 5, 10],
        &Extraction::default(),
    )
    .unwrap();
    assert_equal(&metrics, &expected.retrieval);
}
