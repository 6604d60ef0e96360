//! The engine on the real towers against open_clip: `tests/reference/train_clip.py`.

use super::*;
use crate::image_text::contrastive::{Contrastive, ImageTextBatch};
use clip::checkpoint::{StateDict, apply, canonical, read_state_dict};
use clip::preprocess::{PixelBatch, Preprocess, PreprocessConfig};
use clip::tokenizer::{TokenBatch, Tokenizer};
use clip::{ModelConfig, Precision, Pretrained};

struct Reference {
    pretrained: Pretrained<TrainBackend>,
    recipe: Recipe,
    tensors: StateDict,
}

fn reference(out: &Path, more: &str) -> Reference {
    let device = Default::default();
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/train/clip.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let text = |name: &str| header.metadata().as_ref().unwrap()[name].clone();
    let config =
        ModelConfig::from_json(&serde_json::from_str(&text("model_cfg")).unwrap()).unwrap();
    let tensors = read_state_dict(&path).unwrap();
    let weights = tensors
        .clone()
        .rename(|name| name.strip_prefix("model.").map(Into::into));
    let weights = canonical(weights, &path).unwrap().1;
    let model = apply(
        config.init(0, Precision::F32, &device),
        weights,
        &path,
        &device,
    )
    .unwrap();
    let mut recipe = recipe(out, more);
    recipe.optimizer = serde_json::from_str(&text("optimizer")).unwrap();
    recipe.schedule.warmup = text("warmup").parse().unwrap();
    let size = PreprocessConfig {
        size: [16, 16],
        ..Default::default()
    };
    let preprocess = Preprocess::new(size);
    let tokenizer = Tokenizer::clip().with_context_length(8);
    Reference {
        pretrained: Pretrained {
            model,
            preprocess,
            tokenizer,
            config,
        },
        recipe,
        tensors,
    }
}

struct Recorded {
    pixels: Vec<u8>,
    ids: Vec<i32>,
    rows: usize,
}

impl Batches<ImageTextBatch> for Recorded {
    fn samples_per_epoch(&self) -> u64 {
        (self.ids.len() / 8) as u64
    }
    fn batch_size(&self) -> u64 {
        self.rows as u64
    }
    fn get(&mut self, place: Place) -> Result<ImageTextBatch, BoxError> {
        let rows = place.sample as usize..place.sample as usize + self.rows;
        let (image, text) = (16 * 16 * 3, 8);
        let pixels = self.pixels[rows.start * image..rows.end * image].to_vec();
        let ids = self.ids[rows.start * text..rows.end * text].to_vec();
        Ok(ImageTextBatch {
            pixels: PixelBatch {
                pixels,
                n: self.rows,
                height: 16,
                width: 16,
            },
            texts: vec![TokenBatch {
                ids,
                n: self.rows,
                context_length: 8,
            }],
        })
    }
}

fn assert_curve(more: &str, accumulate: usize) {
    let folder = tempfile::tempdir().unwrap();
    let Reference {
        pretrained,
        mut recipe,
        tensors,
    } = reference(folder.path(), more);
    recipe.run.accumulate = accumulate;
    let values = |name: &str| tensors.get(name).unwrap().values();
    let mut batches = Recorded {
        pixels: values("pixels").into_iter().map(|v| v as u8).collect(),
        ids: values("ids").into_iter().map(|v| v as i32).collect(),
        rows: 6 / accumulate,
    };
    let task = Contrastive::new(&pretrained);
    run(Run::<TrainBackend, _> {
        task: &task,
        model: pretrained.model,
        recipe: &recipe,
        batches: &mut batches,
        collective: &Single,
        validate: None,
        launch: &Launch::default(),
        device: Default::default(),
    })
    .unwrap();
    let mut worst = 0f64;
    assert_eq!(log(&recipe).len(), values("loss").len());
    for (index, (_, got)) in log(&recipe).into_iter().enumerate() {
        for name in ["loss", "grad_norm"] {
            let want = f64::from(values(name)[index]);
            let off = (got[name] - want).abs() / want;
            worst = worst.max(off);
            assert!(
                off < 1e-4,
                "step {}: {name} is {} instead of {want}",
                index + 1,
                got[name]
            );
        }
    }
    println!("largest relative difference of losses and gradient norms: {worst:.1e}");
    assert!(
        folder
            .path()
            .join("checkpoints/step_00000020/model/open_clip_model.safetensors")
            .exists()
    );
}

#[test]
fn twenty_steps_of_a_tiny_clip_follow_open_clip() {
    assert_curve("", 1);
}

#[test]
fn twenty_steps_of_a_tiny_clip_follow_open_clip_with_cache_and_replay() {
    assert_curve("replay = true", 3);
}
