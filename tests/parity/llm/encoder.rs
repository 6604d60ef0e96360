//! Texts → vectors. Reference: `tests/reference/llm_encoder.py` (transformers 5.23, float32, CPU).

use super::{Fixture, assert_relative, path};
use crate::fixture::host;
use burn::backend::Flex;
use burn::prelude::*;
use burn_ndarray::NdArray;
use clip_burn::llm::{
    Encoder, EncoderOptions, Framing, LoadOptions, Pooling, Pretrained, SEPARATOR, Template,
    Visibility,
};
use serde_json::{Value, json};

/// Of the largest entry.
const TOLERANCE: f32 = 1e-5;

pub fn load<B: Backend>(options: Option<EncoderOptions>) -> Encoder<B> {
    let directory = path("encoder/cc");
    Encoder::load(
        &directory,
        options,
        &LoadOptions::default(),
        &Default::default(),
    )
    .unwrap()
}

/// A row of the reference's tokenization.
struct Row {
    instruction: String,
    text: String,
    ids: Vec<u32>,
    own: usize,
    truncated: bool,
}

fn cases() -> Vec<(String, EncoderOptions, Vec<Row>)> {
    let text = std::fs::read_to_string(path("encoder/texts.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let case = |case: Value| {
        let mut options = EncoderOptions::llm2vec(match case["template"].as_bool().unwrap() {
            true => Template::llama3(),
            false => Template::none(),
        });
        options.max_length = case["max_length"].as_u64().unwrap() as usize;
        if case["framing"] == "exact" {
            options.framing = Framing::Exact;
        }
        if case["case"] == "causal" {
            options.visibility = Visibility::Causal;
        }
        let row = |row: &Value| Row {
            instruction: row["instruction"].as_str().unwrap().into(),
            text: row["text"].as_str().unwrap().into(),
            ids: serde_json::from_value(row["ids"].clone()).unwrap(),
            own: row["own"].as_u64().unwrap() as usize,
            truncated: row["truncated"].as_bool().unwrap(),
        };
        let rows = case["rows"].as_array().unwrap().iter().map(row).collect();
        (case["case"].as_str().unwrap().to_string(), options, rows)
    };
    cases.into_iter().map(case).collect()
}

fn texts(rows: &[Row]) -> impl Iterator<Item = (&str, &str)> {
    rows.iter()
        .map(|row| (row.instruction.as_str(), row.text.as_str()))
}

#[test]
fn ids_and_own_tokens_are_llm2vecs_and_those_of_the_exact_rule() {
    let tokenizer = load::<Flex>(None).tokenizer;
    for (case, options, rows) in cases() {
        let got = options.rows(&tokenizer, texts(&rows)).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let what = format!("{case}: {:?} {:?}", row.instruction, row.text);
            assert_eq!(got.row(i), row.ids, "{what}");
            assert_eq!(got.own[i], row.own, "{what}");
            assert_eq!(got.truncated[i], row.truncated, "{what}");
        }
    }
}

fn poolings_match<B: Backend>(backend: &str) {
    let fixture = Fixture::read("encoder/pooled");
    let device = Default::default();
    let mut encoder = load::<B>(None);
    for (case, options, rows) in cases() {
        encoder.options = options;
        let rows = encoder
            .options
            .rows(&encoder.tokenizer, texts(&rows))
            .unwrap();
        for (pooling, name) in [
            (Pooling::Mean, "mean"),
            (Pooling::WeightedMean, "weighted_mean"),
            (Pooling::Last, "last"),
            (Pooling::Eos, "last"),
            (Pooling::Bos, "bos"),
        ] {
            let name = format!("{case}.{name}");
            if !fixture.has(&name) {
                continue;
            }
            encoder.options.pooling = pooling;
            let got = host(encoder.embed(&rows, &device));
            let what = format!("{name} on {backend}");
            assert_relative(&what, &got, &fixture.values(&name), TOLERANCE);
        }
    }
}

#[test]
fn pooled_vectors_match_transformers_on_flex() {
    poolings_match::<Flex>("flex");
}

#[test]
fn pooled_vectors_match_transformers_on_ndarray() {
    poolings_match::<NdArray>("ndarray");
}

#[test]
fn a_vector_does_not_depend_on_the_texts_beside_it() {
    let device = Default::default();
    let encoder = load::<Flex>(None);
    let (_, _, rows) = cases().swap_remove(0);
    let texts: Vec<String> = rows
        .into_iter()
        .filter(|row| row.instruction.is_empty())
        .map(|row| row.text)
        .collect();
    let together = encoder.encode(&texts, texts.len(), &device).unwrap();
    let few = encoder.encode(&texts, 7, &device).unwrap();
    let together = host(together);
    assert_relative("batches of 7", &host(few), &together, 1e-6);
    let alone = texts.iter().flat_map(|text| {
        let text = std::slice::from_ref(text);
        host(encoder.encode(text, 1, &device).unwrap())
    });
    assert_relative("alone", &alone.collect::<Vec<_>>(), &together, 1e-6);
}

#[test]
fn a_release_is_loaded_with_its_own_way_to_frame_a_text() {
    let encoder = load::<Flex>(None);
    assert_eq!(encoder.options, EncoderOptions::llm2vec(Template::llama3()));
    let refused = Pretrained::<Flex>::load(
        &path("encoder/cc"),
        &LoadOptions::default(),
        &Default::default(),
    );
    let message = refused.map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("Encoder::load"), "{message}");
    // A model with a head serves as an encoder, too; nothing says which template it wants.
    let directory = path("llama3");
    let loaded = |options| {
        Encoder::<Flex>::load(
            &directory,
            options,
            &LoadOptions::default(),
            &Default::default(),
        )
    };
    let message = loaded(None).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("template"), "{message}");
    let options = EncoderOptions::new(Template::none());
    let headless = loaded(Some(options.clone())).unwrap().model;
    let whole = super::load::<Flex>("llama3").model.model;
    let ids = Fixture::read("llama3").ids();
    assert_eq!(
        host(headless.forward(ids.clone(), None)),
        host(whole.forward(ids.clone(), None))
    );
    // Meta's files serve, too.
    let (load, device) = (LoadOptions::default(), Default::default());
    let metas = Encoder::<Flex>::load(&path("meta"), Some(options), &load, &device).unwrap();
    let whole = super::load::<Flex>("meta").model.model;
    assert_eq!(
        host(metas.model.forward(ids.clone(), None)),
        host(whole.forward(ids, None))
    );
}

#[test]
fn what_llm2vec_wrote_beside_a_model_is_heeded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cc = path("encoder/cc");
    for entry in cc.read_dir().unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let loaded = |fields: Value| {
        let file = folder.path().join("llm2vec_config.json");
        std::fs::write(file, fields.to_string()).unwrap();
        let (load, device) = (LoadOptions::default(), Default::default());
        Encoder::<Flex>::load(folder.path(), None, &load, &device).map(|encoder| encoder.options)
    };
    let written = |pooling: &str, longest: usize, doc: usize, skip: bool| {
        loaded(
            json!({"pooling_mode": pooling, "max_length": longest, "doc_max_length": doc,
            "skip_instruction": skip}),
        )
    };
    let options = written("eos_token", 300, 300, true).unwrap();
    assert_eq!((options.pooling, options.max_length), (Pooling::Eos, 300));
    let refused = |options: Result<EncoderOptions, _>| -> String {
        let error: clip_burn::llm::Error = options.unwrap_err();
        error.to_string()
    };
    assert!(refused(written("mean", 512, 400, true)).contains("doc_max_length"));
    assert!(refused(written("mean", 512, 512, false)).contains("skip_instruction"));
    assert!(refused(written("mean", 600, 600, true)).contains("up to 512"));
    assert!(refused(written("median", 512, 512, true)).contains("median"));
}

#[test]
fn texts_without_tokens_and_tokens_without_room_are_refused() {
    let device = Default::default();
    let mut encoder = load::<Flex>(None);
    let refused = |encoder: &Encoder<Flex>, text: &str| {
        let vectors = encoder.encode(&[text], 1, &device);
        vectors.map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused(&encoder, SEPARATOR).contains("no vector"));
    encoder.options = EncoderOptions::new(Template::none());
    assert!(refused(&encoder, "  ").contains("no vector"));
    encoder.options = EncoderOptions::new(Template::llama3());
    encoder.options.max_length = 6;
    assert!(refused(&encoder, "a dog").contains("max_length 6"));
    encoder.options.max_length = 0;
    assert!(refused(&encoder, "a dog").contains("max_length is 0"));
    encoder.options = EncoderOptions::new(Template::llama3());
    encoder.config.vocab_size = 200;
    assert!(refused(&encoder, "a dog").contains("another model"));
    let none: [&str; 0] = [];
    assert!(encoder.encode(&none, 1, &device).is_err());
}

#[test]
fn bf16_vectors_point_where_f32_ones_do() {
    let device = Default::default();
    let precision = clip_burn::clip::Precision::Bf16;
    let options = LoadOptions {
        precision,
        weights: precision,
    };
    let half = Encoder::<Flex>::load(&path("encoder/cc"), None, &options, &device).unwrap();
    let texts = ["a red dog on the beach", "", "two cats"];
    let [half, whole] =
        [half, load::<Flex>(None)].map(|encoder| encoder.encode(&texts, 2, &device));
    let (half, whole) = (half.unwrap(), whole.unwrap());
    let norm = |x: Tensor<Flex, 2>| x.square().sum_dim(1).sqrt();
    let cosine = (half.clone() * whole.clone()).sum_dim(1) / (norm(half) * norm(whole));
    for cosine in host(cosine) {
        assert!(cosine > 0.999, "{cosine}");
    }
}
