//! The engine on the real towers against open_clip: `tests/reference/train_clip.py`, `train_siglip.py`.

use super::*;
use crate::image_text::contrastive::{Contrastive, ContrastiveLoss, ImageTextBatch};
use clip::checkpoint::{StateDict, apply, canonical, read_state_dict};
use clip::preprocess::{PixelBatch, Preprocess, PreprocessConfig};
use clip::tokenizer::{TokenBatch, Tokenizer};
use clip::{ModelConfig, Precision, Pretrained};

struct Reference {
    pretrained: Pretrained<TrainBackend>,
    recipe: Recipe,
    tensors: StateDict,
}

fn reference(name: &str, out: &Path, more: &str) -> Reference {
    let device = Default::default();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../tests/fixtures/train/{name}.safetensors"));
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let config =
        ModelConfig::from_json(&serde_json::from_str(&metadata["model_cfg"]).unwrap()).unwrap();
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
    recipe.optimizer = serde_json::from_str(&metadata["optimizer"]).unwrap();
    recipe.schedule.warmup = metadata["warmup"].parse().unwrap();
    let preprocess = match metadata.get("preprocess_cfg") {
        Some(text) => serde_json::from_str(text).unwrap(),
        None => PreprocessConfig {
            size: [16, 16],
            ..Default::default()
        },
    };
    let context_length = tensors.get("ids").unwrap().shape()[2];
    Reference {
        pretrained: Pretrained {
            model,
            preprocess: Preprocess::new(preprocess),
            tokenizer: Tokenizer::clip()
                .with_context_length(context_length)
                .unwrap(),
            config,
        },
        recipe,
        tensors,
    }
}

/// The batches that PyTorch saw, cut into parts of `rows` samples.
struct Recorded {
    pixels: Vec<u8>,
    /// Of an image.
    height: usize,
    width: usize,
    ids: Vec<i32>,
    context_length: usize,
    rows: usize,
}

impl Recorded {
    fn new(tensors: &StateDict, accumulate: usize) -> Self {
        let (pixels, ids) = (tensors.get("pixels").unwrap(), tensors.get("ids").unwrap());
        Self {
            height: pixels.shape()[2],
            width: pixels.shape()[3],
            pixels: pixels.values().into_iter().map(|v| v as u8).collect(),
            context_length: ids.shape()[2],
            rows: ids.shape()[1] / accumulate,
            ids: ids.values().into_iter().map(|v| v as i32).collect(),
        }
    }
}

impl Batches<ImageTextBatch> for Recorded {
    fn samples_per_epoch(&self) -> u64 {
        (self.ids.len() / self.context_length) as u64
    }
    fn batch_size(&self) -> u64 {
        self.rows as u64
    }
    fn get(&mut self, place: Place) -> Result<ImageTextBatch, BoxError> {
        let rows = place.sample as usize..place.sample as usize + self.rows;
        let (image, text) = (self.height * self.width * 3, self.context_length);
        let pixels = self.pixels[rows.start * image..rows.end * image].to_vec();
        let ids = self.ids[rows.start * text..rows.end * text].to_vec();
        Ok(ImageTextBatch {
            pixels: PixelBatch {
                pixels: pixels.into(),
                n: self.rows,
                height: self.height,
                width: self.width,
            },
            texts: vec![TokenBatch {
                ids,
                n: self.rows,
                context_length: self.context_length,
            }],
        })
    }
}

fn assert_curve(name: &str, loss: ContrastiveLoss, more: &str, accumulate: usize) {
    let folder = tempfile::tempdir().unwrap();
    let Reference {
        pretrained,
        mut recipe,
        tensors,
    } = reference(name, folder.path(), more);
    recipe.run.accumulate = accumulate;
    let values = |name: &str| tensors.get(name).unwrap().values();
    let mut batches = Recorded::new(&tensors, accumulate);
    let mut task = Contrastive::new(&pretrained);
    task.loss = loss;
    let outcome = run(Run::<TrainBackend, _> {
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
    let trained = outcome.model.model;
    if let (Some(bias), Some(want)) = (&trained.logit_bias, tensors.get("final.logit_bias")) {
        // They have moved by 1e-2 and 1e-3; the loss hardly shows it.
        for (what, got, want) in [
            ("logit_bias", bias.val().into_scalar(), want.values()[0]),
            (
                "logit_scale",
                trained.logit_scale.val().into_scalar(),
                values("final.logit_scale")[0],
            ),
        ] {
            assert!((got - want).abs() < 3e-5, "{what}: {got} instead of {want}");
        }
    } else {
        assert_eq!(name, "clip");
    }
}

#[test]
fn twenty_steps_of_a_tiny_clip_follow_open_clip() {
    assert_curve("clip", ContrastiveLoss::Softmax, "", 1);
}

#[test]
fn twenty_steps_of_a_tiny_clip_follow_open_clip_with_cache_and_replay() {
    assert_curve("clip", ContrastiveLoss::Softmax, "replay = true", 3);
}

/// The scale is not clamped, as in the paper.
#[test]
fn twenty_steps_of_a_tiny_siglip_follow_open_clip() {
    let more = "logit_scale_range = []";
    assert_curve("siglip", ContrastiveLoss::Sigmoid, more, 1);
}

#[test]
fn twenty_steps_of_a_tiny_siglip_follow_open_clip_with_cache_and_replay() {
    let more = "logit_scale_range = []\nreplay = true";
    assert_curve("siglip", ContrastiveLoss::Sigmoid, more, 3);
}
