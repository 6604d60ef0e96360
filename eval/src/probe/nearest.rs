//! A vote of the nearest training images, weighted by their cosine (Wu et al., 2018, as used for DINO by Caron et al.,
//! 2021). Nothing is trained, so the result depends on the embeddings alone.

use serde_json::json;

use super::{Labelled, check_splits, details, few_per_class, shots};
use crate::error::{EvalError, Result};
use crate::metrics::classification::Predictions;
use crate::metrics::retrieval::top_k;
use crate::tasks::Outcome;
use crate::tasks::zero_shot::single_label_metrics;

/// How to vote. The default is DINO's.
#[derive(Clone, Debug, PartialEq)]
pub struct NearestOptions {
    /// Training images that vote.
    pub neighbours: usize,
    /// A vote counts `exp(cosine / temperature)`.
    pub temperature: f32,
    /// Training images per class; all if `None`.
    pub fewshot_k: Option<usize>,
    /// Of the choice of images.
    pub seed: u64,
}

impl Default for NearestOptions {
    fn default() -> Self {
        Self {
            neighbours: 20,
            temperature: 0.07,
            fewshot_k: None,
            seed: 0,
        }
    }
}

/// Classifies the images of `test` by their nearest images of `train`. Of equal cosines the lower index votes.
pub fn nearest_probe(
    train: &Labelled,
    test: &Labelled,
    options: &NearestOptions,
) -> Result<Outcome> {
    check_splits(train, None, test)?;
    if options.neighbours == 0 {
        return Err(EvalError::Option {
            option: "neighbours",
            reason: "must be at least 1".into(),
        });
    }
    let few = train.select(&few_per_class(
        &train.labels,
        options.fewshot_k,
        options.seed,
    )?);
    let classes = train.labels.iter().max().map_or(0, |max| max + 1);
    let mut predictions = Predictions::new(classes);
    let neighbours = top_k(&test.features, &few.features, options.neighbours);
    for (neighbours, &label) in neighbours.iter().zip(&test.labels) {
        let mut votes = vec![0.0f32; classes];
        for &(image, cosine) in neighbours {
            // Minus one: the same weights relative to each other, and no overflow at a low temperature.
            votes[few.labels[image]] += ((cosine - 1.0) / options.temperature).exp();
        }
        predictions.push(&votes, label);
    }
    let mut metrics = single_label_metrics(&predictions, "knn_");
    metrics.insert("neighbours".into(), json!(options.neighbours));
    metrics.insert("seed".into(), json!(options.seed));
    metrics.insert("fewshot_k".into(), shots(options.fewshot_k));
    Ok(Outcome {
        task: "knn_probe",
        metrics,
        details: details(&few, test, classes, "neighbours are sought among"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Features;

    fn labelled(rows: &[([f32; 2], usize)]) -> Labelled {
        let values = rows.iter().flat_map(|row| row.0).collect();
        Labelled {
            features: Features::new(values, 2).unwrap(),
            labels: rows.iter().map(|row| row.1).collect(),
        }
    }

    fn accuracy(neighbours: usize, temperature: f32) -> f64 {
        // One image of class 0 close by, two of class 1 farther away; a third class on the other side.
        let train = labelled(&[
            ([1.0, 0.0], 0),
            ([1.0, 0.8], 1),
            ([1.0, -0.8], 1),
            ([-1.0, 0.0], 2),
        ]);
        let test = labelled(&[([3.0, 0.0], 0)]);
        let options = NearestOptions {
            neighbours,
            temperature,
            ..NearestOptions::default()
        };
        let outcome = nearest_probe(&train, &test, &options).unwrap();
        outcome.metrics["knn_acc1"].as_f64().unwrap()
    }

    /// By hand: cosines 1, 0.78, 0.78, -1. At a low temperature the nearest decides, at a high one the majority.
    #[test]
    fn near_images_count_more_and_the_temperature_says_how_much() {
        assert_eq!(accuracy(1, 0.07), 1.0);
        assert_eq!(accuracy(3, 0.07), 1.0);
        assert_eq!(accuracy(3, 10.0), 0.0);
        assert_eq!(accuracy(100, 0.07), 1.0, "more neighbours than images");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let train = labelled(&[([1.0, 0.0], 0), ([0.0, 1.0], 1)]);
        let unseen = labelled(&[([1.0, 0.0], 4)]);
        let options = NearestOptions::default();
        let message = |test: &Labelled, options: &NearestOptions| {
            let error = nearest_probe(&train, test, options).unwrap_err();
            error.to_string()
        };
        assert!(message(&unseen, &options).contains("class 4 of the test split"));
        let none = NearestOptions {
            neighbours: 0,
            ..options.clone()
        };
        assert!(message(&train, &none).contains("neighbours"));
        let many = NearestOptions {
            fewshot_k: Some(2),
            ..options
        };
        assert!(message(&train, &many).contains("class 0 has only 1 of the 2"));
    }
}
