//! The loop against PyTorch: `tests/reference/train_toy.py`.

use super::*;
use crate::checkpoint::tensors;
use crate::parameters::write_parameters;
use crate::toy::{INPUT, SEQ};
use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    optimizer: crate::optimizer::AdamWConfig,
    warmup: u64,
    steps: u64,
    curve: Vec<BTreeMap<String, f64>>,
    final_norms: BTreeMap<String, f64>,
}

/// The batches that PyTorch saw, cut into `micro` parts.
struct Recorded {
    images: Vec<f32>,
    ids: Vec<i32>,
    rows: usize,
}

impl Batches<ToyBatch> for Recorded {
    fn samples_per_epoch(&self) -> u64 {
        (self.ids.len() / SEQ) as u64
    }
    fn batch_size(&self) -> u64 {
        self.rows as u64
    }
    fn get(&mut self, place: Place) -> Result<ToyBatch, BoxError> {
        let rows = place.sample as usize..place.sample as usize + self.rows;
        let (image, text) = (SEQ * INPUT, SEQ);
        Ok(ToyBatch {
            images: self.images[rows.start * image..rows.end * image].to_vec(),
            ids: self.ids[rows.start * text..rows.end * text].to_vec(),
        })
    }
}

fn assert_curve<B: AutodiffBackend>(more: &str, accumulate: usize) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/train");
    let text = std::fs::read_to_string(fixtures.join("toy.json")).unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    let mut weights = tensors::read(&fixtures.join("toy.safetensors")).unwrap();
    let images = weights.remove("images").unwrap();
    let ids = weights.remove("ids").unwrap();
    let mut batches = Recorded {
        images: images.iter::<f32>().collect(),
        ids: ids.iter::<i32>().collect(),
        rows: ids.shape[1] / accumulate,
    };

    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(folder.path(), more);
    recipe.optimizer = reference.optimizer;
    recipe.schedule.warmup = reference.warmup;
    recipe.run.steps = Some(reference.steps);
    recipe.run.accumulate = accumulate;
    let outcome = run::<B, _>(Run {
        task: &ToyTask::default(),
        model: write_parameters(Towers::new(0, &Default::default()), weights),
        recipe: &recipe,
        batches: &mut batches,
        collective: &Single,
        validate: None,
        launch: &Launch::default(),
        device: Default::default(),
    })
    .unwrap();

    let log = log(&recipe);
    assert_eq!(log.len(), reference.curve.len());
    for ((step, got), want) in log.iter().zip(&reference.curve) {
        for (name, want) in want {
            let off = (got[name] - want).abs() / want.abs();
            // Gradients feel the error function of a backend more than the loss does.
            let limit = if name == "grad_norm" { 3e-4 } else { 1e-4 };
            assert!(
                off < limit,
                "step {step}: {name} is {} instead of {want}",
                got[name]
            );
        }
    }
    for (path, data) in read_parameters(&outcome.model.0) {
        let norm = data.iter::<f64>().map(|x| x * x).sum::<f64>().sqrt();
        let want = reference.final_norms[&path];
        assert!(
            (norm - want).abs() < 1e-4 * want,
            "{path}: norm {norm} instead of {want}"
        );
    }
}

#[test]
fn twenty_steps_follow_pytorch_and_open_clip_on_flex() {
    assert_curve::<TrainBackend>("", 1);
}

#[test]
fn twenty_steps_follow_pytorch_and_open_clip_with_cache_and_replay() {
    assert_curve::<TrainBackend>("replay = true", 3);
}

#[test]
fn twenty_steps_follow_pytorch_and_open_clip_on_ndarray() {
    assert_curve::<Autodiff<NdArray>>("", 1);
}
