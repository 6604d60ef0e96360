//! Every format and naming scheme gives the features that Python computes.

use crate::command::{Folder, fixture};
use crate::features::{Features, assert_close};
use burn::backend::Flex;
use burn::prelude::*;
use burn::tensor::TensorData;
use clip_burn::clip::checkpoint::{Scheme, StateDict, apply, canonical, read_state_dict};
use clip_burn::clip::{Clip, ModelConfig, Precision};

type B = Flex;

fn expected() -> StateDict {
    read_state_dict(&fixture("expected.safetensors")).unwrap()
}

fn model(file: &str, config: &str, scheme: Scheme) -> Clip<B> {
    let path = fixture(file);
    let json = std::fs::read_to_string(fixture(config)).unwrap();
    let config = ModelConfig::from_json(&serde_json::from_str(&json).unwrap()).unwrap();
    let (found, dict) = canonical(read_state_dict(&path).unwrap(), &path).unwrap();
    assert_eq!(found, scheme);
    let device = Default::default();
    apply(
        config.init(0, Precision::F32, &device),
        dict,
        &path,
        &device,
    )
    .unwrap()
}

fn host<const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap()
}

/// Embeds the reference's pixels and ids and compares with the features of `reference`.
#[track_caller]
fn assert_features(model: &Clip<B>, reference: &str, tolerance: f32) {
    let expected = expected();
    let values = |name: &str| expected.get(name).unwrap().values();
    let shape = |name: &str| expected.get(name).unwrap().shape().to_vec();
    let device = Default::default();
    let pixels = TensorData::new(values("pixels"), shape("pixels"));
    let ids: Vec<i32> = values("ids").iter().map(|id| *id as i32).collect();
    let ids = TensorData::new(ids, shape("ids"));
    for (tower, features) in [
        (
            "image",
            model.encode_image(Tensor::from_data(pixels, &device)),
        ),
        ("text", model.encode_text(Tensor::from_data(ids, &device))),
    ] {
        let name = format!("{reference}.{tower}");
        assert_close(&name, &host(features), &values(&name), tolerance);
    }
}

#[track_caller]
fn assert_open_clip(file: &str, tolerance: f32) {
    let model = model(file, "open_clip.json", Scheme::OpenClip);
    assert_features(&model, "open_clip", tolerance);
}

#[test]
fn a_state_dict_of_torch_save() {
    assert_open_clip("open_clip.pt", 1e-5);
}

#[test]
fn the_older_stream_of_pickles() {
    assert_open_clip("legacy.pt", 1e-5);
}

#[test]
fn views_of_a_shared_storage() {
    assert_open_clip("views.pt", 1e-5);
}

#[test]
fn a_training_checkpoint_with_optimizer_namespace_and_numpy_numbers() {
    assert_open_clip("training.pt", 1e-5);
}

#[test]
fn a_torchscript_archive_as_openai_released() {
    assert_open_clip("torchscript.pt", 1e-5);
}

#[test]
fn half_precision_files_differ_by_their_rounding_only() {
    // Values are about 1: f16 keeps 11 bits, bf16 8.
    assert_open_clip("f16.safetensors", 5e-3);
    assert_open_clip("bf16.pt", 4e-2);
}

#[test]
fn slip_and_laclip_checkpoints() {
    for name in ["slip", "laclip"] {
        let (file, config) = (format!("{name}.pt"), format!("{name}.json"));
        let model = model(&file, &config, Scheme::Slip);
        assert_features(&model, name, 1e-5);
    }
}

/// Through the command, since the directory brings its own small tokenizer.
#[test]
fn hugging_face_directories_whole_and_sharded() {
    let folder = Folder::new();
    for name in ["hugging_face", "hugging_face_sharded"] {
        let model = fixture(name).display().to_string();
        let (pixels, texts) = (fixture("expected.safetensors"), fixture("texts.txt"));
        let arguments = ["--model", &model, "--no-normalize", "--out", "out"];
        let mut arguments = arguments.map(String::from).to_vec();
        arguments.extend(["--pixels".into(), pixels.display().to_string()]);
        arguments.extend(["--texts".into(), texts.display().to_string()]);
        folder.run("embed", &arguments).succeeded();
        let features = Features::read(&folder.path("out"));
        let expected = expected();
        for tower in ["image", "text"] {
            assert_close(
                &format!("{name}, {tower}"),
                &features.values(&format!("{tower}_features")),
                &expected
                    .get(&format!("hugging_face.{tower}"))
                    .unwrap()
                    .values(),
                1e-5,
            );
        }
    }
}
