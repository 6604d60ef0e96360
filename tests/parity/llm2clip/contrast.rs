//! Contrastive tuning through a Llama with LoRA: texts in, gradients of LoRA out.

use super::{Fixture, LLAMA_TOLERANCE, assert_relative, path};
use crate::fixture::host;
use burn::backend::{Autodiff, Flex};
use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use clip_burn::clip::checkpoint::ParamPath;
use clip_burn::llm::{Encoder, LoadOptions};
use clip_burn::llm2clip::stage1::{Contrast, Triplet, TripletBatch, TripletRows};
use clip_burn::train::{Batches, BoxError, Launch, Pass, Place, Prepare, Recipe, Task, Trainer};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

#[derive(Deserialize)]
struct Texts {
    instruction: String,
    triplets: Vec<[String; 3]>,
}

fn tuning_matches<B: AutodiffBackend>() {
    struct Compare<'a, B: AutodiffBackend>(ParamPath, &'a B::Gradients, &'a Fixture, usize);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Compare<'_, B> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let path = self.0.join();
            let Some(grad) = param.val().grad(self.1) else {
                return assert!(!path.contains("lora"), "{path}");
            };
            let name = path
                .replace("lora.lora_a", "lora_A.weight")
                .replace("lora.lora_b", "lora_B.weight");
            let name = format!("grad.{name}");
            assert_relative(&name, &host(grad), &self.2.values(&name), LLAMA_TOLERANCE);
            self.3 += 1;
        }
    }
    let (fixture, device) = (Fixture::read("contrast"), Default::default());
    let texts = std::fs::read_to_string(path("contrast.json")).unwrap();
    let texts: Texts = serde_json::from_str(&texts).unwrap();
    let llm = tests::fixture("llm/encoder/cc");
    let encoder = Encoder::<B>::load(&llm, None, &LoadOptions::default(), &device).unwrap();
    let adapter = tests::fixture("llm/encoder/lora");
    let (model, mut lora) = encoder.model.with_adapter(&adapter, &device).unwrap();
    lora.dropout = 0.0;
    let rows = TripletRows {
        tokenizer: encoder.tokenizer.clone(),
        options: encoder.options.clone(),
        vocab_size: encoder.config.vocab_size,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let items = texts
        .triplets
        .into_iter()
        .map(|[query, positive, negative]| {
            let (key, instruction) = (String::new(), texts.instruction.clone());
            let triplet = Triplet {
                key,
                instruction,
                query,
                positive,
                negative,
            };
            rows.item(triplet, &mut rng).unwrap()
        });
    let batch = rows.batch(items.collect()).unwrap();
    let task = Contrast {
        scale: 20.0,
        options: encoder.options,
        lora,
        tokenizer: encoder.tokenizer,
        config: encoder.config,
        base: llm,
    };
    let embedded = task
        .embed(&model, &batch, &mut Pass::plain(&device, 0))
        .unwrap();
    let loss = task.loss(&model, embedded.embeddings).unwrap().total;
    assert_relative(
        "loss",
        &host(loss.clone()),
        &fixture.values("loss"),
        LLAMA_TOLERANCE,
    );
    let grads = loss.backward();
    let mut compare = Compare::<B>(ParamPath::default(), &grads, &fixture, 0);
    model.visit(&mut compare);
    assert_eq!(compare.3, 28);
}

/// Triplets as the loader prepares them, in parts of `rows`.
struct Prepared {
    prepare: TripletRows,
    triplets: Vec<Triplet>,
    rows: usize,
}

impl Batches<TripletBatch> for Prepared {
    fn samples_per_epoch(&self) -> u64 {
        self.triplets.len() as u64
    }

    fn batch_size(&self) -> u64 {
        self.rows as u64
    }

    fn get(&mut self, place: Place) -> Result<TripletBatch, BoxError> {
        let rows = place.sample as usize..place.sample as usize + self.rows;
        let item = |at: usize| {
            // As the loader's, a function of the place.
            let mut rng = ChaCha8Rng::seed_from_u64(at as u64);
            self.prepare.item(self.triplets[at].clone(), &mut rng)
        };
        let items = rows.map(item).collect::<Result<Vec<_>, _>>()?;
        self.prepare
            .batch(items)
            .map_err(|error| format!("{error:?}").into())
    }
}

/// Losses and norms of gradients of three steps with LoRA's dropout.
fn three_steps(accumulate: usize, replay: bool) -> Vec<f64> {
    let device = Default::default();
    let llm = tests::fixture("llm/encoder/cc");
    let encoder =
        Encoder::<Autodiff<Flex>>::load(&llm, None, &LoadOptions::default(), &device).unwrap();
    let adapter = tests::fixture("llm/encoder/lora");
    // Dropout belongs to the layers: the adapter's file says 0.05.
    let (model, lora) = encoder.model.with_adapter(&adapter, &device).unwrap();
    assert_eq!(lora.dropout, 0.05);
    let prepare = TripletRows {
        tokenizer: encoder.tokenizer.clone(),
        options: encoder.options.clone(),
        vocab_size: encoder.config.vocab_size,
    };
    let triplet = |i: usize| Triplet {
        key: i.to_string(),
        instruction: ["", "find it"][i % 2].into(),
        query: "a red dog ".repeat(i % 3 + 1),
        positive: format!("dog number {i}"),
        negative: format!("a boat {}", "on the sea ".repeat(i % 4)),
    };
    let task = Contrast {
        scale: 20.0,
        options: encoder.options,
        lora,
        tokenizer: encoder.tokenizer,
        config: encoder.config,
        base: llm,
    };
    let mut batches = Prepared {
        prepare,
        triplets: (0..12).map(triplet).collect(),
        rows: 4 / accumulate,
    };
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::parse(&format!(
        "[run]\nsteps = 3\nout = '{}'\naccumulate = {accumulate}\nreplay = {replay}\n[schedule]\nwarmup = 0\n",
        folder.path().display()
    ));
    let recipe = recipe.unwrap();
    let mut trainer = Trainer::new(&task, model, &recipe, &mut batches, &device).unwrap();
    trainer.start(&Launch::default()).unwrap();
    let mut seen = Vec::new();
    while !trainer.is_done() {
        let report = trainer.step().unwrap();
        seen.extend([report.values["loss"], report.values["grad_norm"]]);
    }
    seen
}

#[test]
fn dropout_of_lora_is_the_same_however_a_batch_is_parted_and_blocks_are_replayed() {
    let whole = three_steps(1, false);
    for (accumulate, replay) in [(1, true), (2, false), (4, true)] {
        let parted = three_steps(accumulate, replay);
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-4 * b.abs();
        assert!(parted.iter().zip(&whole).all(close), "{parted:?} {whole:?}");
    }
}

#[test]
fn contrastive_tuning_gives_the_gradients_of_peft_on_flex() {
    tuning_matches::<Autodiff<Flex>>();
}

#[test]
fn contrastive_tuning_gives_the_gradients_of_peft_on_ndarray() {
    tuning_matches::<Autodiff<NdArray>>();
}
