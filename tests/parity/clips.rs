//! CLIPS beside a PyTorch model made from the paper's and OpenVision's description (`tests/reference/clips.py`): towers,
//! both captioners, losses and the gradient of every parameter.

use crate::fixture::{assert_close, distance, fixtures, host};
use burn::backend::{Autodiff, Flex};
use burn::module::ModuleVisitor;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use clip_burn::clip::checkpoint::{ParamPath, StateDict, read_state_dict};
use clip_burn::clip::preprocess::PixelBatch;
use clip_burn::clip::tokenizer::TokenBatch;
use clip_burn::clip::{LoadOptions, Pretrained};
use clip_burn::clips::{Caption, Captioner, Clips, ClipsBatch, ClipsModel, ClipsTask, Decoder};
use clip_burn::eval::DualEncoder;
use clip_burn::train::optimizer::{AdamWConfig, Gradients, GroupedAdamW};
use clip_burn::train::parameters::groups::{Groups, GroupsConfig};
use clip_burn::train::parameters::parameters;
use clip_burn::train::parameters::stable_ids::with_stable_ids;
use clip_burn::train::trainer::collective::Single;
use clip_burn::train::trainer::step::{StepOptions, step};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// Of gradients, of the largest entry of the tensor: entries near zero carry only rounding.
const TOLERANCE: f32 = 1e-5;

fn read(name: &str) -> StateDict {
    read_state_dict(&fixtures().join(format!("clips/{name}.safetensors"))).unwrap()
}

fn values(dict: &StateDict, name: &str) -> Vec<f32> {
    dict.get(name)
        .unwrap_or_else(|| panic!("no {name} in the fixture"))
        .values()
}

/// A tensor of the batch.
fn integers(name: &str) -> Vec<i32> {
    let file = std::fs::read(fixtures().join("clips/batch.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let tensor = file.tensor(name).unwrap();
    match tensor.dtype() {
        safetensors::Dtype::U8 => tensor
            .data()
            .iter()
            .map(|value| i32::from(*value))
            .collect(),
        _ => {
            let values = tensor
                .data()
                .chunks_exact(8)
                .map(|value| i64::from_le_bytes(value.try_into().unwrap()));
            values.map(|value| value as i32).collect()
        }
    }
}

/// The model directory that a run would have written, with the fixture's weights in it.
fn directory(decoder: Decoder) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (fixtures().join("clips"), dir.path());
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(from.join("config.json")).unwrap()).unwrap();
    let mut config = json!({ "model_cfg": config, "preprocess_cfg": {
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear", "resize_mode": "squash",
    } });
    let text = &mut config["model_cfg"]["text_cfg"];
    text["hf_tokenizer_name"] = "tiny".into();
    text["tokenizer_mode"] = "clips".into();
    let write = |name: &str, text: String| std::fs::write(to.join(name), text).unwrap();
    write("open_clip_config.json", config.to_string());
    let words = (3..57).map(|id| format!("word{id}"));
    let special = ["[PAD]", "[unused0]", "[unused1]"]
        .map(String::from)
        .into_iter();
    let last = ["[UNK]", "[SEP]", "[CLS]"].map(String::from);
    write(
        "vocab.txt",
        special
            .chain(words)
            .chain(last)
            .collect::<Vec<_>>()
            .join("\n"),
    );
    std::fs::copy(
        from.join("model.safetensors"),
        to.join("open_clip_model.safetensors"),
    )
    .unwrap();
    let captioner = match decoder {
        Decoder::LearnableQueries => "captioner.safetensors",
        Decoder::Autoregressive => "captioner_autoregressive.safetensors",
    };
    std::fs::copy(from.join(captioner), to.join("captioner.safetensors")).unwrap();
    let config = json!({
        "width": 12, "layers": 2, "heads": 3, "queries": 7, "decoder": decoder,
        "image_width": 16, "text_width": 8, "vocab_size": 60,
    });
    write("captioner.json", config.to_string());
    dir
}

fn load<B: Backend>(dir: &Path) -> Clips<B> {
    let path = dir.to_str().unwrap();
    Clips::load(path, &LoadOptions::default(), &Default::default()).unwrap()
}

/// The six samples in micro-batches.
fn batches(parts: usize) -> Vec<ClipsBatch> {
    let bytes = integers("pixels")
        .into_iter()
        .map(|value| value as u8)
        .collect::<Vec<_>>();
    let ids = integers;
    let (pixels, web, sub, targets, lengths) = (
        bytes,
        ids("web"),
        ids("sub"),
        ids("targets"),
        ids("lengths"),
    );
    let each = 6 / parts;
    (0..parts)
        .map(|part| {
            let rows = |all: &[i32], width: usize| {
                all[part * each * width..(part + 1) * each * width].to_vec()
            };
            let image = 28 * 28 * 3;
            ClipsBatch {
                pixels: PixelBatch {
                    pixels: pixels[part * each * image..(part + 1) * each * image]
                        .to_vec()
                        .into(),
                    n: each,
                    height: 28,
                    width: 28,
                },
                texts: TokenBatch {
                    ids: [rows(&web, 10), rows(&sub, 10)].concat(),
                    n: 2 * each,
                    context_length: 10,
                },
                targets: rows(&targets, 7)
                    .chunks(7)
                    .zip(rows(&lengths, 1))
                    .map(|(target, length)| target[..length as usize].to_vec())
                    .collect(),
            }
        })
        .collect()
}

/// A parameter's name in the reference: open_clip's, and `captioner.` before those of the captioner.
fn name(path: &str) -> &str {
    path.strip_prefix("text.").unwrap_or(path)
}

/// Gradients or values of all parameters, under the reference's names.
fn by_name<B: Backend, M: Module<B>>(
    model: &M,
    gradients: Option<&Gradients<B>>,
) -> BTreeMap<String, Vec<f32>> {
    struct Collect<'a, B: Backend> {
        path: ParamPath,
        gradients: Option<&'a Gradients<B>>,
        found: BTreeMap<String, Vec<f32>>,
    }
    impl<B: Backend> ModuleVisitor<B> for Collect<'_, B> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<B, D>>) {
            let values = match self.gradients {
                Some(gradients) => gradients
                    .get(param.id)
                    .map(|gradient| host(gradient.clone())),
                None => Some(host(param.val())),
            };
            if let Some(values) = values {
                self.found
                    .insert(name(&self.path.join()).to_string(), values);
            }
        }
    }
    let mut collect = Collect {
        path: ParamPath::default(),
        gradients,
        found: BTreeMap::new(),
    };
    model.visit(&mut collect);
    collect.found
}

/// Compares entries `i · n / m` of every tensor with the `m` that the reference stored, relative to the largest of all.
fn compare(
    what: &str,
    got: &BTreeMap<String, Vec<f32>>,
    wanted: &StateDict,
    prefix: &str,
    tolerance: f32,
) -> usize {
    let mut compared = 0;
    for (full, wanted) in wanted.iter() {
        let Some(name) = full.strip_prefix(prefix) else {
            continue;
        };
        let all = got
            .get(name)
            .unwrap_or_else(|| panic!("{what}: nothing for {name}"));
        let wanted = wanted.values();
        let stored: Vec<f32> = (0..wanted.len())
            .map(|i| all[i * all.len() / wanted.len()])
            .collect();
        let largest = all.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let difference = distance(&stored, &wanted) / largest.max(f32::MIN_POSITIVE);
        assert!(
            difference <= tolerance,
            "{what} {name}: {difference:e} of the largest entry"
        );
        compared += 1;
    }
    compared
}

fn everything_matches<B: Backend>(decoder: Decoder)
where
    Autodiff<B>: AutodiffBackend<InnerBackend = B>,
{
    let device = Default::default();
    let dir = directory(decoder);
    let expected = match decoder {
        Decoder::LearnableQueries => read("expected"),
        Decoder::Autoregressive => read("expected_autoregressive"),
    };
    let clips = load::<Autodiff<B>>(dir.path());
    let Clips {
        encoders,
        captioner,
    } = clips;
    let (captioner, config) = captioner.unzip();
    let mut task = ClipsTask::new(&encoders, config, vec![Caption::Web, Caption::Partial]);
    let model = with_stable_ids(ClipsModel::new(encoders.model, captioner)).unwrap();

    for (parts, replay) in [(1, false), (1, true), (3, false), (3, true)] {
        let what = format!("{decoder:?}, {parts} micro-batches, replay {replay}");
        let options = StepOptions {
            replay,
            seed: 1,
            ..StepOptions::default()
        };
        task.contrastive_weight = 1.0;
        let made = step(&task, &model, &batches(parts), options, &Single, &device).unwrap();
        assert_close(&what, &host(made.loss), &values(&expected, "loss"), 2e-6);
        for (part, wanted) in [
            ("web", "web_loss"),
            ("partial", "sub_loss"),
            ("caption", "caption"),
        ] {
            let (_, loss) = made.parts.iter().find(|(name, _)| name == part).unwrap();
            assert_close(
                &format!("{what}: {part}"),
                &host(loss.clone()),
                &values(&expected, wanted),
                2e-6,
            );
        }
        let got = by_name(
            &burn::module::AutodiffModule::valid(&model),
            Some(&made.gradients),
        );
        let compared = compare(&what, &got, &expected, "grad.", TOLERANCE);
        assert_eq!(compared, got.len(), "{what}: every gradient");
        assert!(
            !got.contains_key("visual.positional_embedding"),
            "the table is fixed"
        );

        // The captioner's loss alone: heads, final norms and the temperature get nothing, blocks of both towers do.
        task.contrastive_weight = 0.0;
        let made = step(&task, &model, &batches(parts), options, &Single, &device).unwrap();
        let got = by_name(
            &burn::module::AutodiffModule::valid(&model),
            Some(&made.gradients),
        );
        let twice: BTreeMap<_, _> = got
            .iter()
            .map(|(name, gradient)| (name.clone(), gradient.iter().map(|x| x / 2.0).collect()))
            .collect();
        let compared = compare(&what, &twice, &expected, "caption_grad.", TOLERANCE);
        let zero: Vec<&String> = got
            .iter()
            .filter(|(_, g)| g.iter().all(|x| *x == 0.0))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(compared + zero.len(), got.len(), "{what}: {zero:?}");
        let routed = [
            "ln_final.bias",
            "ln_final.weight",
            "logit_scale",
            "text_projection",
            "visual.ln_post.bias",
            "visual.ln_post.weight",
            "visual.proj",
        ];
        assert_eq!(zero, routed, "{what}: gradients that are exactly zero");
    }
}

fn towers_and_logits_match<B: Backend>(decoder: Decoder) {
    let device = Default::default();
    let dir = directory(decoder);
    let expected = match decoder {
        Decoder::LearnableQueries => read("expected"),
        Decoder::Autoregressive => read("expected_autoregressive"),
    };
    let clips = load::<B>(dir.path());
    let batch = batches(1).remove(0);
    let images: Tensor<B, 4> = batch.pixels.to_tensor(clips.preprocess().config(), &device);
    assert_close(
        "image",
        &host(clips.encode_images(images.clone())),
        &values(&expected, "image"),
        1e-6,
    );
    let clip = &clips.encoders.model;
    let ids = |name: &str, width: usize| {
        Tensor::<B, 2, Int>::from_data(TensorData::new(integers(name), [6, width]), &device)
    };
    for name in ["web", "sub"] {
        let text = clip_burn::clip::nn::l2_normalize(clip.encode_text(ids(name, 10)));
        assert_close(name, &host(text), &values(&expected, name), 1e-6);
    }
    let (captioner, _) = clips.captioner.as_ref().unwrap();
    let patches = clip.visual.raw_patch_tokens(clip.visual.tokens(images));
    let words = clip_burn::clips::model::read_tokens(&clip.text, clip.text.tokens(ids("web", 10)));
    let start = Tensor::<B, 2, Int>::ones([6, 1], &device);
    let previous = Tensor::cat(vec![start, ids("targets", 7).narrow(1, 0, 6)], 1);
    let logits = captioner.forward(captioner.prefix(patches, words), 7, Some(previous));
    let (got, wanted) = (host(logits), values(&expected, "logits"));
    let largest = wanted.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    assert!(distance(&got, &wanted) <= TOLERANCE * largest, "logits");
}

#[test]
fn clips_embeds_and_predicts_as_pytorch_does() {
    for decoder in [Decoder::LearnableQueries, Decoder::Autoregressive] {
        towers_and_logits_match::<Flex>(decoder);
        towers_and_logits_match::<NdArray>(decoder);
    }
}

#[test]
fn losses_and_gradients_of_clips_match_pytorch_on_flex() {
    everything_matches::<Flex>(Decoder::LearnableQueries);
    everything_matches::<Flex>(Decoder::Autoregressive);
}

#[test]
fn losses_and_gradients_of_clips_match_pytorch_on_ndarray() {
    everything_matches::<NdArray>(Decoder::LearnableQueries);
    everything_matches::<NdArray>(Decoder::Autoregressive);
}

/// Five steps with decay of the kernels only, as OpenVision has it.
#[test]
fn five_steps_of_clips_match_pytorch() {
    let device = Default::default();
    let dir = directory(Decoder::LearnableQueries);
    let Clips {
        encoders,
        captioner,
    } = load::<Autodiff<Flex>>(dir.path());
    let (captioner, config) = captioner.unzip();
    let task = ClipsTask::new(&encoders, config, vec![Caption::Web, Caption::Partial]);
    let mut model = with_stable_ids(ClipsModel::new(encoders.model, captioner)).unwrap();
    let groups = GroupsConfig {
        decay_exclude: ["text.token_embedding.*", "captioner.learnable_tokens"]
            .map(String::from)
            .to_vec(),
        ..GroupsConfig::default()
    };
    let groups = Groups::new(&groups, parameters(&model)).unwrap();
    let config = AdamWConfig {
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.2,
        ..AdamWConfig::default()
    };
    let mut optimizer = GroupedAdamW::new(config, &groups);
    let expected = read("steps");
    for index in 0..5 {
        let made = step(
            &task,
            &model,
            &batches(1),
            StepOptions::default(),
            &Single,
            &device,
        )
        .unwrap();
        assert_close(
            "loss",
            &host(made.loss),
            &values(&expected, &format!("loss.{index}")),
            2e-5,
        );
        let mut gradients = made.gradients;
        model = optimizer.step(1e-3, model, &mut gradients);
    }
    let got = by_name::<Autodiff<Flex>, _>(&model, None);
    let compared = compare("weights", &got, &expected, "final.", TOLERANCE);
    // Six biases hold those of keys, which rounding alone moves.
    assert_eq!(compared + 6, got.len());
}

#[test]
fn the_mask_is_the_golden_one() {
    let text = std::fs::read_to_string(fixtures().join("clips/mask.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let size = |name: &str| golden[name].as_u64().unwrap() as usize;
    let mask = Captioner::<Flex>::mask(size("prefix"), size("queries"), &Default::default());
    let allowed: Vec<String> = host(mask)
        .chunks(size("prefix") + size("queries"))
        .map(|row| {
            row.iter()
                .map(|score| if *score == 0.0 { '1' } else { '0' })
                .collect()
        })
        .collect();
    assert_eq!(json!(allowed), golden["allow"]);
}

#[test]
fn positions_are_the_golden_ones() {
    let text = std::fs::read_to_string(fixtures().join("clips/sincos.json")).unwrap();
    let golden: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(golden.len() > 50);
    for entry in golden {
        let at = |name: &str| entry[name].as_u64().unwrap() as usize;
        let table = clip_burn::clip::nn::sin_cos_2d_moco(at("width"), at("grid"));
        let found = table[at("row") * at("width") + at("index")];
        assert!(
            (f64::from(found) - entry["value"].as_f64().unwrap()).abs() < 1e-6,
            "{entry}"
        );
    }
}

/// What a run writes is read back, and open_clip's part of it does without the captioner.
#[test]
fn a_directory_with_a_captioner_comes_back() {
    use clip_burn::train::Trained;
    for decoder in [Decoder::LearnableQueries, Decoder::Autoregressive] {
        let (first, second) = (directory(decoder), tempfile::tempdir().unwrap());
        let clips = load::<Flex>(first.path());
        clips.write_into(second.path()).unwrap();
        let again = load::<Flex>(second.path());
        let weights =
            |clips: &Clips<Flex>| by_name::<Flex, _>(&clips.captioner.clone().unwrap().0, None);
        assert_eq!(weights(&clips), weights(&again));
        assert_eq!(clips.captioner.unwrap().1, again.captioner.unwrap().1);
        let alone = Pretrained::<Flex>::load(
            second.path().to_str().unwrap(),
            &LoadOptions::default(),
            &Default::default(),
        );
        assert!(alone.is_ok());
    }
}
