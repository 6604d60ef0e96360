//! Probes of frozen image embeddings, with all training images or a few per class: one linear layer, or a vote of the
//! nearest training images.
//!
//! The linear layer follows the procedure of CLIP_benchmark (`metrics/linear_probe.py`): AdamW, cosine schedule to zero, weight decay chosen on
//! a validation set. Random choices come from the seed alone, and an image set that is too small for the asked number
//! of shots is an error instead of an empty result.

mod cache;
mod fewshot;
mod linear;
mod nearest;
mod sweep;

use burn::tensor::backend::Backend;
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

pub use cache::{FeatureCache, Labelled, check_disjoint};
pub use fewshot::few_per_class;
pub use linear::{Linear, LinearTraining};
pub use nearest::{NearestOptions, nearest_probe};
pub use sweep::{WEIGHT_DECAYS, best_weight_decay};

use crate::error::{EvalError, Result};
use crate::metrics::classification::Predictions;
use crate::results::Details;
use crate::tasks::Outcome;
use crate::tasks::zero_shot::single_label_metrics;

/// How to train a probe. The default is CLIP_benchmark's.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeOptions {
    /// Training images per class; all if `None`.
    pub fewshot_k: Option<usize>,
    /// Passes over the training images.
    pub epochs: usize,
    /// Learning rate at the start.
    pub lr: f64,
    /// Images per step.
    pub batch_size: usize,
    /// Of the choice of images, the initial weights and the order of training.
    pub seed: u64,
    /// Share of the training images that serves for validation where the data set has no split for it; 0 for none.
    pub val_proportion: f64,
    /// Scale embeddings to unit length before the linear layer.
    pub normalize: bool,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            fewshot_k: None,
            epochs: 10,
            lr: 0.1,
            batch_size: 64,
            seed: 0,
            val_proportion: 0.0,
            normalize: true,
        }
    }
}

/// Trains on `train`, chooses the weight decay on `val` if there is one, and reports on `test`.
pub fn linear_probe<B: Backend>(
    train: &Labelled,
    val: Option<&Labelled>,
    test: &Labelled,
    options: &ProbeOptions,
    device: &B::Device,
) -> Result<Outcome> {
    check(train, val, test, options)?;
    let held_out = match val {
        None if options.val_proportion > 0.0 => Some(split_off(train, options)),
        _ => None,
    };
    let (train, val) = match &held_out {
        Some((rest, held_out)) => (rest, Some(held_out)),
        None => (train, val),
    };
    let chosen = few_per_class(&train.labels, options.fewshot_k, options.seed)?;
    let few = train.select(&chosen);
    let classes = train.labels.iter().max().map_or(0, |max| max + 1);
    let fit = |data: &Labelled, weight_decay: f64| {
        let training = LinearTraining {
            classes,
            epochs: options.epochs,
            lr: options.lr,
            weight_decay,
            batch_size: options.batch_size,
            seed: options.seed,
            normalize: options.normalize,
        };
        Linear::<B>::train(&data.features, &data.labels, &training, device)
    };
    let (weight_decay, model) = match val {
        None => (0.0, fit(&few, 0.0)),
        Some(val) => {
            let accuracy = |decay| {
                predict(&fit(&few, decay), val, classes)
                    .accuracy_at(1)
                    .unwrap_or(0.0)
            };
            let best = best_weight_decay(accuracy);
            // With few shots, the validation images would be more shots than were asked for.
            let last = if options.fewshot_k.is_none() {
                few.and(val)
            } else {
                few.clone()
            };
            (best, fit(&last, best))
        }
    };
    let predictions = predict(&model, test, classes);
    let mut metrics = single_label_metrics(&predictions, "lp_");
    metrics.insert("weight_decay".into(), json!(weight_decay));
    metrics.insert("epochs".into(), json!(options.epochs));
    metrics.insert("seed".into(), json!(options.seed));
    metrics.insert("fewshot_k".into(), shots(options.fewshot_k));
    metrics.insert("normalized".into(), json!(options.normalize));
    Ok(Outcome {
        task: "linear_probe",
        metrics,
        details: details(&few, test, classes, "trained on"),
    })
}

fn details(train: &Labelled, test: &Labelled, classes: usize, what: &str) -> Details {
    let images = train.labels.len();
    Details {
        images: test.labels.len(),
        notes: vec![format!("{what} {images} images of {classes} classes")],
        ..Details::default()
    }
}

/// CLIP_benchmark writes -1 for all images.
fn shots(fewshot_k: Option<usize>) -> Value {
    json!(fewshot_k.map_or(-1, |k| k as i64))
}

fn predict<B: Backend>(model: &Linear<B>, data: &Labelled, classes: usize) -> Predictions {
    Predictions::from_scores(&model.logits(&data.features), classes, &data.labels)
}

fn check(
    train: &Labelled,
    val: Option<&Labelled>,
    test: &Labelled,
    options: &ProbeOptions,
) -> Result<()> {
    let option = |option, reason: &str| {
        Err(EvalError::Option {
            option,
            reason: reason.into(),
        })
    };
    if options.epochs == 0 || options.batch_size == 0 {
        return option("epochs, batch_size", "must be at least 1");
    }
    if !(0.0..1.0).contains(&options.val_proportion) {
        return option("val_proportion", "must be at least 0 and below 1");
    }
    check_splits(train, val, test)
}

fn check_splits(train: &Labelled, val: Option<&Labelled>, test: &Labelled) -> Result<()> {
    if train.labels.is_empty() || test.labels.is_empty() {
        return Err(EvalError::Features(
            "a probe needs training and test images".into(),
        ));
    }
    let classes = train.labels.iter().max().map_or(0, |max| max + 1);
    for (name, split) in [("validation", val), ("test", Some(test))] {
        let Some(split) = split else { continue };
        if let Some(unseen) = split.labels.iter().find(|&&label| label >= classes) {
            let reason = format!("class {unseen} of the {name} split has no training image");
            return Err(EvalError::Features(reason));
        }
        if split.features.dim() != train.features.dim() {
            let reason = format!(
                "{name} features have {} dimensions, training features {}",
                split.features.dim(),
                train.features.dim()
            );
            return Err(EvalError::Features(reason));
        }
    }
    Ok(())
}

/// The training images without, and with, the share for validation.
fn split_off(train: &Labelled, options: &ProbeOptions) -> (Labelled, Labelled) {
    let order = permutation(
        train.labels.len(),
        &mut ChaCha8Rng::seed_from_u64(options.seed),
    );
    let held_out = (train.labels.len() as f64 * options.val_proportion).round() as usize;
    (
        train.select(&order[held_out..]),
        train.select(&order[..held_out]),
    )
}

fn permutation(len: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(rng);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Features;
    use burn::backend::Flex;
    use burn_ndarray::NdArray;

    /// Clusters on a circle, `per` points each, with noise.
    fn clusters(classes: usize, per: usize, seed: u64) -> Labelled {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let labels: Vec<usize> = (0..classes * per).map(|i| i % classes).collect();
        let values = labels.iter().flat_map(|&label| {
            let angle =
                label as f32 / classes as f32 * std::f32::consts::TAU + rng.random_range(-0.3..0.3);
            [angle.cos(), angle.sin()]
        });
        Labelled {
            features: Features::new(values.collect(), 2).unwrap(),
            labels,
        }
    }

    #[test]
    fn separable_clusters_are_learned_and_backends_agree() {
        let (train, test) = (clusters(4, 40, 0), clusters(4, 25, 1));
        let options = ProbeOptions::default();
        let flex =
            linear_probe::<Flex>(&train, None, &test, &options, &Default::default()).unwrap();
        assert_eq!(flex.metrics["lp_acc1"], json!(1.0));
        assert_eq!(flex.metrics["lp_acc5"], json!(null));
        assert_eq!(flex.metrics["fewshot_k"], json!(-1));
        let other =
            linear_probe::<NdArray>(&train, None, &test, &options, &Default::default()).unwrap();
        assert_eq!(flex.metrics, other.metrics);
    }

    #[test]
    fn with_validation_images_a_weight_decay_is_chosen() {
        let (train, test) = (clusters(3, 20, 0), clusters(3, 10, 1));
        let options = ProbeOptions {
            epochs: 2,
            val_proportion: 0.5,
            ..Default::default()
        };
        let outcome =
            linear_probe::<Flex>(&train, None, &test, &options, &Default::default()).unwrap();
        assert!(outcome.metrics["weight_decay"].as_f64().unwrap() >= 1e-6);
    }

    #[test]
    fn few_shots_and_unseen_classes_are_checked() {
        let (train, test) = (clusters(3, 4, 0), clusters(5, 2, 1));
        let run = |test: &Labelled, options: &ProbeOptions| {
            linear_probe::<Flex>(&train, None, test, options, &Default::default())
                .unwrap_err()
                .to_string()
        };
        assert!(run(&test, &ProbeOptions::default()).contains("class 3 of the test split"));
        let options = ProbeOptions {
            fewshot_k: Some(16),
            ..Default::default()
        };
        assert!(run(&train, &options).contains("only 4 of the 16 images"));
    }
}
