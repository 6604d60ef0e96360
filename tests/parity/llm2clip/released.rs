//! Released layouts, and our own: the same embeddings from all.

use super::{Fixture, LLAMA_TOLERANCE, TOLERANCE, assert_relative, path, text};
use crate::fixture::host;
use burn::backend::Flex;
use burn::prelude::*;
use burn_ndarray::NdArray;
use clip_burn::clip::LoadOptions;
use clip_burn::clip::checkpoint::{HostTensor, read_state_dict, write_safetensors};
use clip_burn::clip::preprocess::PixelBatch;
use clip_burn::eval::{DualEncoder, TextEncoder};
use clip_burn::llm2clip::{Llm2Clip, Llm2ClipOptions, is_llm2clip};
use clip_burn::models::Model;

fn options() -> Llm2ClipOptions {
    Llm2ClipOptions {
        clip: LoadOptions {
            config: Some(text("eva.json")),
            ..LoadOptions::default()
        },
        llm: Some(tests::fixture("llm/encoder/cc")),
        ..Llm2ClipOptions::default()
    }
}

#[track_caller]
fn check<B: Backend>(model: &impl DualEncoder<B>) {
    let (fixture, device) = (Fixture::read("eva"), Default::default());
    let pixels = PixelBatch {
        pixels: fixture.values("images").iter().map(|v| *v as u8).collect(),
        n: 8,
        height: 24,
        width: 24,
    };
    let image = model.encode_images(pixels.to_tensor(model.preprocess().config(), &device));
    assert_relative("image", &host(image), &fixture.values("image"), TOLERANCE);
    let texts = std::fs::read_to_string(path("texts.json")).unwrap();
    let texts: Vec<String> = serde_json::from_str(&texts).unwrap();
    let embedded = model.encode_texts(&texts).unwrap();
    assert_relative(
        "text",
        &host(embedded),
        &fixture.values("text"),
        LLAMA_TOLERANCE,
    );
    assert!((model.scale().unwrap().ln() - 3.5).abs() < 1e-6);
    assert_eq!(model.truncated(&texts), Some(0));
}

fn release_matches<B: Backend>() {
    let model = Llm2Clip::<B>::load(&text("eva.pt"), &options(), &Default::default()).unwrap();
    check(&model);
}

#[test]
fn a_released_eva02_file_with_its_llama_gives_the_embeddings_of_the_reference_on_flex() {
    release_matches::<Flex>();
}

#[test]
fn a_released_eva02_file_with_its_llama_gives_the_embeddings_of_the_reference_on_ndarray() {
    release_matches::<NdArray>();
}

#[test]
fn a_written_directory_gives_the_same_embeddings_by_the_one_door() {
    let (device, folder) = (Default::default(), tempfile::tempdir().unwrap());
    let model = Llm2Clip::<Flex>::load(&text("eva.pt"), &options(), &device).unwrap();
    model.write_into(folder.path()).unwrap();
    let written = folder.path().to_str().unwrap();
    assert!(is_llm2clip(written));
    let again = Model::<Flex>::load(written, &LoadOptions::default(), &device).unwrap();
    check(&again);
    // With another language model than the named one.
    let message = Llm2Clip::<Flex>::load(
        written,
        &Llm2ClipOptions {
            llm: Some(tests::fixture("llm/llama3")),
            ..Llm2ClipOptions::default()
        },
        &device,
    );
    let message = message.unwrap_err().to_string();
    assert!(message.contains("llama3"), "{message}");
}

#[test]
fn a_released_openai_directory_gives_the_embeddings_of_transformers() {
    let (fixture, device) = (Fixture::read("openai"), Default::default());
    assert!(is_llm2clip(&text("openai")));
    let model =
        Llm2Clip::<Flex>::load(&text("openai"), &Llm2ClipOptions::default(), &device).unwrap();
    let image = model.network.visual.forward(fixture.tensor("images"));
    assert_relative("image", &host(image), &fixture.values("image"), TOLERANCE);
    let out = model.network.text.forward(fixture.tensor("vectors"));
    assert_relative("text", &host(out), &fixture.values("text"), TOLERANCE);
    assert!((model.scale().unwrap().ln() - 4.25).abs() < 1e-6);
    let message = model
        .text_embeddings(&["a".into()])
        .unwrap_err()
        .to_string();
    assert!(message.contains("`llm`"), "{message}");
}

#[test]
fn an_adapter_of_a_live_model_must_be_told_whether_it_normalises() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("live.safetensors");
    let dict = read_state_dict(&path("eva.pt")).unwrap();
    let mut dict =
        dict.rename(|name| Some(name.replace("text.text_adaptor", "text.text_proj.text_adaptor")));
    dict.insert(
        "text.text.norm.weight",
        HostTensor::from_values(vec![1.0], [1]),
    );
    write_safetensors(&file, &dict).unwrap();
    let load = |normalize| {
        let options = Llm2ClipOptions {
            normalize,
            without_teacher: true,
            ..options()
        };
        Llm2Clip::<Flex>::load(file.to_str().unwrap(), &options, &Default::default())
    };
    let message = load(None).unwrap_err().to_string();
    assert!(message.contains("normalize"), "{message}");
    assert!(!load(Some(false)).unwrap().network.text.normalize);
}
