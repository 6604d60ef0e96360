//! Ten steps of stage 2 by the engine, from a released file.

use super::{Fixture, TOLERANCE, assert_relative, text};
use burn::backend::{Autodiff, Flex};
use burn::tensor::DType;
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use clip_burn::clip::LoadOptions;
use clip_burn::clip::checkpoint::{canonical, collect};
use clip_burn::clip::preprocess::PixelBatch;
use clip_burn::llm2clip::stage2::{Align, ImageVectorBatch};
use clip_burn::llm2clip::{Llm2Clip, Llm2ClipOptions, Teacher, TextSide};
use clip_burn::train::{Batches, BoxError, Launch, Place, Recipe, Trainer};
use std::path::Path;

const STEPS: usize = 10;
const BATCH: usize = 4;

/// The reference's batches, in parts of `rows`.
struct Recorded {
    images: Vec<u8>,
    chosen: Vec<usize>,
    vectors: Vec<f32>,
    rows: usize,
}

impl Batches<ImageVectorBatch> for Recorded {
    fn samples_per_epoch(&self) -> u64 {
        self.chosen.len() as u64
    }

    fn batch_size(&self) -> u64 {
        self.rows as u64
    }

    fn get(&mut self, place: Place) -> Result<ImageVectorBatch, BoxError> {
        let (image, width) = (24 * 24 * 3, 32);
        let rows = place.sample as usize..place.sample as usize + self.rows;
        let chosen = self.chosen[rows.clone()].iter();
        let pixels = chosen.flat_map(|i| self.images[i * image..(i + 1) * image].to_vec());
        Ok(ImageVectorBatch {
            pixels: PixelBatch {
                pixels: pixels.collect::<Vec<u8>>().into(),
                n: self.rows,
                height: 24,
                width: 24,
            },
            vectors: self.vectors[rows.start * width..rows.end * width].to_vec(),
        })
    }
}

fn ten_steps_match<B: AutodiffBackend>(accumulate: usize, replay: bool) {
    let (fixture, device) = (Fixture::read("eva"), Default::default());
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::parse(&format!(
        "[run]\nsteps = {STEPS}\nout = '{}'\naccumulate = {accumulate}\nreplay = {replay}\n\
         [optimizer]\nlr = 1e-3\nbeta1 = 0.9\nbeta2 = 0.999\neps = 1e-8\nweight_decay = 0.05\nclip_norm = 5.0\n\
         [schedule]\nwarmup = 0\n[groups]\nimage_layer_decay = 0.85\nlayer_rule = \"eva\"\n",
        folder.path().join("run").display()
    ))
    .unwrap();
    let options = Llm2ClipOptions {
        clip: LoadOptions {
            config: Some(text("eva.json")),
            ..LoadOptions::default()
        },
        without_teacher: true,
        ..Llm2ClipOptions::default()
    };
    let start = Llm2Clip::<B>::load(&text("eva.pt"), &options, &device).unwrap();
    let task = Align::<B> {
        config: start.config,
        text_side: TextSide::default(),
        teacher: Teacher::None,
        compute: DType::F32,
    };
    let mut batches = Recorded {
        images: fixture.values("images").iter().map(|v| *v as u8).collect(),
        chosen: fixture
            .values("chosen")
            .iter()
            .map(|v| *v as usize)
            .collect(),
        vectors: fixture.values("vectors"),
        rows: BATCH / accumulate,
    };
    let mut trainer = Trainer::new(&task, start.network, &recipe, &mut batches, &device).unwrap();
    trainer.start(&Launch::default()).unwrap();
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    while !trainer.is_done() {
        let report = trainer.step().unwrap();
        losses.push(report.values["loss"] as f32);
        norms.push(report.values["grad_norm"] as f32);
    }
    assert_relative("losses", &losses, &fixture.values("loss"), TOLERANCE);
    assert_relative(
        "norms of gradients",
        &norms,
        &fixture.values("grad_norm"),
        TOLERANCE,
    );

    let weights = collect(&trainer.trained().network);
    let file = Path::new("eva.safetensors");
    let under_our_names = |prefix: &str| {
        let chosen = fixture
            .0
            .clone()
            .rename(|name| name.strip_prefix(prefix).map(Into::into));
        let mut dict = canonical(chosen, file).unwrap().1;
        for i in 0..4 {
            for (theirs, ours) in [("fn.0", "up"), ("fn.3", "down"), ("ln", "ln")] {
                for end in ["weight", "bias"] {
                    let tensor = dict
                        .remove(&format!("text.text_adaptor.{i}.{theirs}.{end}"))
                        .unwrap();
                    dict.insert(format!("text.blocks.{i}.{ours}.{end}"), tensor);
                }
            }
        }
        for (theirs, ours) in [("4", "norm"), ("5", "proj")] {
            for end in ["weight", "bias"] {
                let tensor = dict
                    .remove(&format!("text.text_adaptor.{theirs}.{end}"))
                    .unwrap();
                dict.insert(format!("text.{ours}.{end}"), tensor);
            }
        }
        dict
    };
    let (after, largest) = (under_our_names("after."), under_our_names("max."));
    assert_eq!(
        weights.names().collect::<Vec<_>>(),
        after.names().collect::<Vec<_>>()
    );
    let mut worst: (f32, String) = (0.0, String::new());
    for (name, tensor) in weights.iter() {
        let sampled: Vec<f32> = tensor.values().into_iter().step_by(5).collect();
        let expected = after.get(name).unwrap().values();
        let off =
            crate::fixture::distance(&sampled, &expected) / largest.get(name).unwrap().values()[0];
        if off > worst.0 {
            worst = (off, name.into());
        }
    }
    println!("weights differ by {:.1e} at most ({})", worst.0, worst.1);
    assert!(worst.0 <= TOLERANCE, "{}: {:e}", worst.1, worst.0);
}

#[test]
fn ten_steps_of_stage_2_match_on_flex() {
    ten_steps_match::<Autodiff<Flex>>(1, false);
}

#[test]
fn ten_steps_of_stage_2_match_on_ndarray() {
    ten_steps_match::<Autodiff<NdArray>>(1, false);
}

#[test]
fn ten_steps_of_stage_2_match_with_gradient_cache_and_replay() {
    ten_steps_match::<Autodiff<Flex>>(2, true);
}
