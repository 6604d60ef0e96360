//! What is written is read: by us, and by transformers and peft where Python has them.

use super::{assert_relative, encoder, load, path};
use crate::fixture::host;
use burn::backend::Flex;
use burn::prelude::*;
use burn::tensor::TensorData;
use clip_burn::clip::Precision;
use clip_burn::clip::checkpoint::{collect, read_state_dict};
use clip_burn::llm::{
    Encoder, EncoderOptions, LlamaConfig, LoadOptions, LoraConfig, Pretrained, SaveOptions,
    Template, Tokenizer, Visibility, Wrapped,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const TEXTS: [&str; 4] = ["a photo of a red dog", "two cats\n\n1234", "née 中文", ""];

/// A small Llama from scratch with a tokenizer of its own.
fn from_scratch() -> Pretrained<Flex> {
    let device = Default::default();
    let lines: Vec<String> = (0..300)
        .map(|i| {
            format!(
                "a photo of a {} dog number {}",
                ["red", "blue"][i % 2],
                i % 7
            )
        })
        .collect();
    let tokenizer = Tokenizer::train(&lines, 300).unwrap();
    let config = LlamaConfig {
        hidden_size: 32,
        head_dim: 8,
        intermediate_size: 48,
        ..LlamaConfig::tiny(tokenizer.vocab_size())
    };
    let model = config.init(4, Precision::F32, &device);
    Pretrained::new(model, tokenizer, config, &device)
}

#[test]
fn initial_weights_are_normal_with_deviation_0_02() {
    let mut sums = BTreeMap::new();
    let scratch = from_scratch();
    let weights = collect(&scratch.model);
    assert_eq!(weights.scalars(), scratch.config.parameters());
    for (name, tensor) in weights.iter() {
        let values = tensor.values();
        if name.ends_with("norm.weight") {
            assert!(values.iter().all(|x| *x == 1.0), "{name}");
            continue;
        }
        let square: f64 = values.iter().map(|x| f64::from(x * x)).sum();
        let deviation = (square / values.len() as f64).sqrt();
        assert!((deviation / 0.02 - 1.0).abs() < 0.1, "{name}: {deviation}");
        sums.insert(name.to_string(), values.len());
    }
    assert_eq!(sums.len(), 1 + 4 * 7, "tied: no head");
}

#[test]
fn a_written_model_is_read_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let scratch = from_scratch();
    let shipped = [("scratch", scratch), ("sharded", load::<Flex>("llama2"))];
    for (name, model) in shipped {
        let directory = folder.path().join(name);
        let options = SaveOptions {
            shard_bytes: if name == "sharded" { 20_000 } else { 1 << 30 },
            ..SaveOptions::default()
        };
        model.save(&directory, &options).unwrap();
        let index = directory.join("model.safetensors.index.json");
        assert_eq!(index.exists(), name == "sharded");
        let again = Pretrained::<Flex>::load(&directory, &LoadOptions::default(), &device).unwrap();
        assert_eq!(again.config, model.config);
        for text in TEXTS {
            let [a, b] = [&again, &model].map(|model| model.tokenizer.encode(text).unwrap());
            assert_eq!(a, b, "{text:?}");
        }
        for ((name, a), (_, b)) in collect(&again.model)
            .iter()
            .zip(collect(&model.model).iter())
        {
            assert_eq!(a.values(), b.values(), "{name}");
        }
        let message = model.save(&directory, &options).unwrap_err().to_string();
        assert!(message.contains("a model already"), "{message}");
    }
}

#[test]
fn an_encoder_is_read_back_with_its_options_and_half_the_bytes_in_bf16() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let mut encoder = encoder::load::<Flex>(None);
    encoder.options = EncoderOptions {
        visibility: Visibility::Causal,
        max_length: 40,
        ..EncoderOptions::new(Template::llama2())
    };
    let size = |weights: Precision| {
        let directory = folder.path().join(weights.to_string());
        let options = SaveOptions {
            weights,
            ..SaveOptions::default()
        };
        encoder.save(&directory, &options).unwrap();
        let again = Encoder::<Flex>::load(&directory, None, &LoadOptions::default(), &device);
        let again = again.unwrap();
        assert_eq!(again.options, encoder.options);
        // The weights were bf16 from the start.
        let vectors = [&encoder, &again].map(|encoder| encoder.encode(&TEXTS, 4, &device).unwrap());
        assert_eq!(vectors[0].to_data(), vectors[1].to_data());
        let path = directory.join("model.safetensors");
        std::fs::metadata(path).unwrap().len()
    };
    let (whole, half) = (size(Precision::F32), size(Precision::Bf16));
    assert!(half < whole * 6 / 10, "{half} of {whole}");
    let config = LoraConfig::llm2clip();
    encoder.model = encoder.model.with_lora(&config, 0, &device).unwrap();
    let refused = encoder.save(&folder.path().join("lora"), &SaveOptions::default());
    assert!(refused.unwrap_err().to_string().contains("merge"));
}

fn reference(directory: &Path) {
    let python = std::env::var("CLIP_BURN_PYTHON").unwrap_or("python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/llm_read_back.py");
    let output = Command::new(&python)
        .arg(script)
        .arg(directory)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs a Python with transformers and peft, which CLIP_BURN_PYTHON names"]
fn transformers_and_peft_read_what_is_written_and_give_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let device = Default::default();
    let mut causal = from_scratch();
    let options = SaveOptions {
        shard_bytes: 20_000,
        ..SaveOptions::default()
    };
    causal.save(&directory.join("causal"), &options).unwrap();
    let encoder = encoder::load::<Flex>(None);
    let options = SaveOptions {
        weights: Precision::Bf16,
        ..SaveOptions::default()
    };
    encoder.save(&directory.join("encoder"), &options).unwrap();
    let model = encoder.model.clone();
    let (adapted, config) = model.with_adapter(&path("encoder/lora"), &device).unwrap();
    let adapter = directory.join("adapter");
    adapted
        .write_adapter(&adapter, &config, "encoder", Wrapped::Decoder)
        .unwrap();
    // The model has four layers, the adapter two.
    let decoder = causal.model.model.clone();
    let (causal_adapted, config) = decoder
        .with_adapter(&path("encoder/lora"), &device)
        .unwrap();
    assert_eq!(config.targets.len(), 14, "{:?}", config.targets);
    causal_adapted
        .write_adapter(
            &directory.join("causal_adapter"),
            &config,
            "causal",
            Wrapped::CausalLm,
        )
        .unwrap();
    std::fs::write(
        directory.join("texts.json"),
        serde_json::to_string(&TEXTS).unwrap(),
    )
    .unwrap();
    reference(directory);
    let text = std::fs::read_to_string(directory.join("ids.json")).unwrap();
    let ids: BTreeMap<String, Vec<Vec<u32>>> = serde_json::from_str(&text).unwrap();
    for (i, text) in TEXTS.iter().enumerate() {
        assert_eq!(
            causal.tokenizer.encode(text).unwrap(),
            ids["causal"][i],
            "{text:?}"
        );
        assert_eq!(
            encoder.tokenizer.encode(text).unwrap(),
            ids["encoder"][i],
            "{text:?}"
        );
    }
    let theirs = read_state_dict(&directory.join("theirs.safetensors")).unwrap();
    let theirs = |name: &str| theirs.get(name).unwrap().values();
    let tensor = |ids: &[u32]| {
        let data: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        Tensor::<Flex, 2, Int>::from_data(TensorData::new(data, [1, ids.len()]), &device)
    };
    let causal_ids = tensor(&ids["causal"][0]);
    let logits = causal.model.forward(causal_ids.clone());
    assert_relative("logits", &host(logits), &theirs("logits"), 1e-5);
    causal.model.model = causal_adapted;
    let logits = causal.model.forward(causal_ids);
    let expected = theirs("adapted_logits");
    assert_relative("adapted logits", &host(logits), &expected, 1e-5);
    assert_ne!(expected, theirs("logits"));
    let ids = tensor(&ids["encoder"][0]);
    let hidden = encoder.model.forward(ids.clone(), None);
    assert_relative("hidden", &host(hidden), &theirs("hidden"), 1e-5);
    let hidden = adapted.forward(ids, None);
    assert_relative("adapted", &host(hidden), &theirs("adapted"), 1e-5);
}
