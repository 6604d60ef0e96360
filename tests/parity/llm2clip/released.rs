//! Released layouts, and our own: the same embeddings from all.

use super::{Fixture, LLAMA_TOLERANCE, TOLERANCE, assert_relative, path, text};
use crate::fixture::host;
use burn::backend::Flex;
use burn::prelude::*;
use burn_ndarray::NdArray;
use clip_burn::clip::LoadOptions;
use clip_burn::clip::preprocess::PixelBatch;
use clip_burn::eval::{DualEncoder, TextEncoder};
use clip_burn::llm::Encoder;
use clip_burn::llm2clip::{CaptionEncoder, Llm2Clip, Llm2ClipOptions, is_llm2clip};
use clip_burn::models::Model;

fn options(config: &str) -> Llm2ClipOptions {
    Llm2ClipOptions {
        clip: LoadOptions {
            config: Some(text(config)),
            ..LoadOptions::default()
        },
        llm: Some(tests::fixture("llm/encoder/cc")),
        ..Llm2ClipOptions::default()
    }
}

#[track_caller]
fn check<B: Backend>(model: &impl DualEncoder<B>, name: &str, scale: f32) {
    let (fixture, device) = (Fixture::read(name), Default::default());
    let images = fixture.values("images").into_iter().map(|v| v as u8);
    let pixels = PixelBatch {
        pixels: images.collect::<Vec<u8>>().into(),
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
    assert!((model.scale().unwrap().ln() - scale).abs() < 1e-6);
    assert_eq!(model.truncated(&texts), Some(0));
}

fn release_matches<B: Backend>() {
    for (name, scale) in [("eva", 3.5), ("siglip", 3.0)] {
        let (file, options) = (
            text(&format!("{name}.pt")),
            options(&format!("{name}.json")),
        );
        let model = Llm2Clip::<B>::load(&file, &options, &Default::default()).unwrap();
        check(&model, name, scale);
    }
}

#[test]
fn released_files_with_their_llama_give_the_embeddings_of_the_reference_on_flex() {
    release_matches::<Flex>();
}

#[test]
fn released_files_with_their_llama_give_the_embeddings_of_the_reference_on_ndarray() {
    release_matches::<NdArray>();
}

#[test]
fn a_written_directory_gives_the_same_embeddings_by_the_one_door() {
    let (device, folder) = (Default::default(), tempfile::tempdir().unwrap());
    let model = Llm2Clip::<Flex>::load(&text("eva.pt"), &options("eva.json"), &device).unwrap();
    model.write_into(folder.path()).unwrap();
    let written = folder.path().to_str().unwrap();
    assert!(is_llm2clip(written));
    let again = Model::<Flex>::load(written, &LoadOptions::default(), &device).unwrap();
    check(&again, "eva", 3.5);
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
fn whether_an_adapter_normalises_can_be_said() {
    let load = |normalize| {
        let options = Llm2ClipOptions {
            normalize,
            without_teacher: true,
            ..options("siglip.json")
        };
        let model = Llm2Clip::<Flex>::load(&text("siglip.pt"), &options, &Default::default());
        model.unwrap().network.text.normalize
    };
    assert_eq!(
        [None, Some(false), Some(true)].map(load),
        [false, false, true]
    );
}

/// The release for SigLIP 2 brings its language model as changes of a base.
#[test]
fn a_directory_of_an_adapter_is_its_base_with_the_adapter_merged() {
    let (device, folder) = (Default::default(), tempfile::tempdir().unwrap());
    let lora = tests::fixture("llm/encoder/lora");
    std::fs::copy(
        lora.join("adapter_model.safetensors"),
        folder.path().join("adapter_model.safetensors"),
    )
    .unwrap();
    let config = std::fs::read_to_string(lora.join("adapter_config.json")).unwrap();
    let named = |base: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["base_model_name_or_path"] = base;
        std::fs::write(
            folder.path().join("adapter_config.json"),
            config.to_string(),
        )
        .unwrap();
        CaptionEncoder::<Flex>::load(folder.path(), &Default::default(), &device)
    };
    let base = tests::fixture("llm/encoder/cc");
    let alone = CaptionEncoder::<Flex>::load(&base, &Default::default(), &device).unwrap();
    let texts = ["a red dog".to_string(), "two cats on a chair".to_string()];
    let whole = named(base.to_str().into()).unwrap();
    let encoder = alone.encoder.clone();
    let (model, _) = encoder.model.with_adapter(&lora, &device).unwrap();
    let expected = Encoder { model, ..encoder }
        .encode(&texts, 2, &device)
        .unwrap();
    let found = whole.text_embeddings(&texts).unwrap();
    assert_relative("merged", &host(found), &host(expected), LLAMA_TOLERANCE);
    assert_ne!(whole.identity().unwrap(), alone.identity().unwrap());
    for (base, said) in [
        (
            serde_json::Value::Null,
            "`base_model_name_or_path` is missing",
        ),
        ("meta-llama/Llama".into(), "hf-hub:meta-llama/Llama"),
    ] {
        let message = named(base).err().unwrap().to_string();
        assert!(message.contains(said), "{message}");
    }
}
