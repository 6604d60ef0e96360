//! Tiny Llamas against transformers. Reference: `tests/reference/llm.py` (transformers 5.23, float32, CPU).

use crate::fixture::{assert_close, distance, host};
use burn::backend::{Flex, NdArray};
use burn::prelude::*;
use burn::tensor::TensorData;
use clip_burn::clip::Precision;
use clip_burn::clip::checkpoint::{StateDict, read_state_dict};
use clip_burn::llm::{
    End, GenerateOptions, Llama, LoadOptions, Pretrained, Prompt, Sampling, Tokenizer, generate,
    sampling::nucleus,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The logits reach 15; two layers round to about 1e-5 of that.
const TOLERANCE: f32 = 1e-4;
const VARIANTS: [&str; 5] = ["llama1", "llama2", "llama3", "llama3_tied", "linear"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/llm")
        .join(name)
}

fn load<B: Backend>(name: &str) -> Pretrained<B> {
    Pretrained::load(&path(name), &LoadOptions::default(), &Default::default()).unwrap()
}

struct Fixture(StateDict);

impl Fixture {
    fn read(name: &str) -> Self {
        Self(read_state_dict(&path(&format!("{name}.safetensors"))).unwrap())
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.0.get(name).unwrap().values()
    }

    fn list(&self, name: &str) -> Vec<u32> {
        self.values(name).iter().map(|id| *id as u32).collect()
    }

    fn prompts(&self) -> Vec<Prompt> {
        (0..4)
            .map(|i| Prompt {
                ids: self.list(&format!("prompt.{i}")),
                seed: 0,
            })
            .collect()
    }

    fn ids<B: Backend>(&self) -> Tensor<B, 2, Int> {
        let tensor = self.0.get("ids").unwrap();
        let shape: [usize; 2] = tensor.shape().try_into().unwrap();
        let ids: Vec<i32> = tensor.values().iter().map(|id| *id as i32).collect();
        Tensor::from_data(TensorData::new(ids, shape), &Default::default())
    }
}

/// The logits of whole sequences, put together from pieces of the given lengths with a cache.
fn in_pieces<B: Backend>(model: &Llama<B>, ids: Tensor<B, 2, Int>, piece: usize) -> Vec<f32> {
    let len = ids.dims()[1];
    let mut cache = model.cache(len + 3);
    let mut parts = Vec::new();
    while cache.len() < len {
        let at = cache.len();
        let part = ids.clone().narrow(1, at, piece.min(len - at));
        parts.push(model.head(model.model.extend(part, &mut cache)));
    }
    host(Tensor::cat(parts, 1))
}

fn logits_match<B: Backend>(backend: &str) {
    for name in VARIANTS {
        let fixture = Fixture::read(name);
        let model = load::<B>(name).model;
        let expected = fixture.values("logits");
        let whole = host(model.forward(fixture.ids()));
        assert_close(&format!("{name} {backend}"), &whole, &expected, TOLERANCE);
        println!(
            "{name} on {backend}: logits differ by {:.1e}",
            distance(&whole, &expected)
        );
        for piece in [1, 7] {
            let what = format!("{name} {backend}, {piece} at a time");
            let got = in_pieces(&model, fixture.ids(), piece);
            assert_close(&what, &got, &expected, TOLERANCE);
        }
    }
}

#[test]
fn logits_match_transformers_with_and_without_cache_on_flex() {
    logits_match::<Flex>("flex");
}

#[test]
fn logits_match_transformers_with_and_without_cache_on_ndarray() {
    logits_match::<NdArray>("ndarray");
}

fn never(_: &[u32]) -> bool {
    false
}

fn options<'a>(max_gen_len: usize) -> GenerateOptions<'a> {
    GenerateOptions {
        sampling: Sampling::GREEDY,
        max_gen_len,
        max_seq_len: 200,
        eos: &[],
        stop: &never,
    }
}

fn greedy_continuations_match<B: Backend>() {
    for name in VARIANTS {
        let fixture = Fixture::read(name);
        let model = load::<B>(name).model;
        let device = Default::default();
        let prompts = fixture.prompts();
        let together = generate(&model, &prompts, &options(64), &device).unwrap();
        for (i, row) in together.iter().enumerate() {
            assert_eq!(
                row.ids,
                fixture.list(&format!("greedy.{i}")),
                "{name}, row {i}"
            );
            assert_eq!(row.end, End::Length);
            let alone = &prompts[i..=i];
            assert_eq!(
                generate(&model, alone, &options(64), &device).unwrap()[0],
                *row
            );
        }
    }
}

#[test]
fn greedy_continuations_of_64_tokens_match_transformers_on_flex() {
    greedy_continuations_match::<Flex>();
}

#[test]
fn greedy_continuations_of_64_tokens_match_transformers_on_ndarray() {
    greedy_continuations_match::<NdArray>();
}

#[test]
fn a_sampled_row_does_not_depend_on_its_neighbours() {
    let fixture = Fixture::read("llama3");
    let model = load::<Flex>("llama3").model;
    let device = Default::default();
    let mut options = options(40);
    options.sampling = Sampling {
        temperature: 0.9,
        top_p: 0.95,
    };
    let mut prompts = fixture.prompts();
    for (seed, prompt) in (10..).zip(&mut prompts) {
        prompt.seed = seed;
    }
    let together = generate(&model, &prompts, &options, &device).unwrap();
    for (prompt, row) in prompts.iter().zip(&together) {
        let alone = generate(&model, std::slice::from_ref(prompt), &options, &device).unwrap();
        assert_eq!(alone[0], *row);
    }
    prompts[0].seed = 99;
    let other = generate(&model, &prompts, &options, &device).unwrap();
    assert_ne!(other[0], together[0]);
    assert_eq!(other[1..], together[1..]);
}

#[test]
fn rows_end_at_eos_at_a_stop_and_at_either_length() {
    let fixture = Fixture::read("llama2");
    let model = load::<Flex>("llama2").model;
    let device = Default::default();
    let prompts = fixture.prompts();
    let full: Vec<Vec<u32>> = (0..4)
        .map(|i| fixture.list(&format!("greedy.{i}")))
        .collect();
    let first = |row: &[u32], id: u32| row.iter().position(|x| *x == id);

    let eos = [full[1][5]];
    let mut with_eos = options(64);
    with_eos.eos = &eos;
    for (row, full) in generate(&model, &prompts, &with_eos, &device)
        .unwrap()
        .iter()
        .zip(&full)
    {
        let end = first(full, eos[0]).unwrap_or(64);
        assert_eq!(row.ids, full[..end], "the end itself is left out");
        assert_eq!(row.end, if end < 64 { End::Eos } else { End::Length });
    }

    let wanted = full[2][3];
    let stop = move |ids: &[u32]| ids.contains(&wanted);
    let mut with_stop = options(64);
    with_stop.stop = &stop;
    for (row, full) in generate(&model, &prompts, &with_stop, &device)
        .unwrap()
        .iter()
        .zip(&full)
    {
        let end = first(full, wanted).map_or(64, |at| at + 1);
        assert_eq!(row.ids, full[..end], "the stop itself is kept");
    }

    let mut short = options(64);
    short.max_seq_len = 9;
    let lengths: Vec<usize> = generate(&model, &prompts, &short, &device)
        .unwrap()
        .iter()
        .map(|row| row.ids.len())
        .collect();
    assert_eq!(lengths, [6, 0, 8, 3], "prompts of 3, 9, 1 and 6 tokens");
}

#[test]
fn metas_files_give_the_logits_of_hugging_faces() {
    let fixture = Fixture::read("llama2");
    let expected = host(load::<Flex>("llama2").model.forward(fixture.ids()));
    for name in ["meta", "meta_sharded"] {
        let pretrained = load::<Flex>(name);
        assert_eq!(pretrained.config.vocab_size, 420, "the tokenizer's, for -1");
        assert_eq!(pretrained.config.eos_token_id, [2]);
        let got = host(pretrained.model.forward(fixture.ids()));
        // The same matrices with rows in another order: sums round as before.
        assert_close(name, &got, &expected, 1e-5);
    }
}

#[test]
fn weights_in_bf16_lose_nothing_of_a_bf16_file() {
    let fixture = Fixture::read("llama3");
    let options = LoadOptions {
        precision: Precision::F32,
        weights: Precision::Bf16,
    };
    let device = Default::default();
    let model = Pretrained::<Flex>::load(&path("llama3"), &options, &device)
        .unwrap()
        .model;
    let got = host(model.forward(fixture.ids()));
    assert_close("llama3", &got, &fixture.values("logits"), TOLERANCE);
}

/// transformers in bf16 is as far from f32 as the fixture says; other orders of rounding are of that size, too.
#[test]
fn bf16_is_no_further_from_f32_than_transformers_in_bf16() {
    for name in VARIANTS {
        let fixture = Fixture::read(name);
        let (expected, theirs) = (fixture.values("logits"), fixture.values("bf16_error"));
        for weights in [Precision::Bf16, Precision::F32] {
            let options = LoadOptions {
                precision: Precision::Bf16,
                weights,
            };
            let device = Default::default();
            let model = Pretrained::<Flex>::load(&path(name), &options, &device)
                .unwrap()
                .model;
            let got = host(model.forward(fixture.ids()));
            let errors = got.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            let mean = errors.sum::<f32>() / got.len() as f32;
            println!(
                "{name}, bf16: mean error {mean:.4}, transformers {:.4}",
                theirs[0]
            );
            assert!(
                mean < 1.25 * theirs[0],
                "{name}: {mean} against {}",
                theirs[0]
            );
        }
    }
}

#[test]
fn a_visible_future_changes_the_past_and_padding_does_not() {
    let device = Default::default();
    let decoder = load::<Flex>("llama3").model.model;
    let ids = Fixture::read("llama3").ids::<Flex>();
    let [batch, seq] = ids.dims();
    let bidirectional = host(decoder.forward(ids.clone(), None));
    let all = Tensor::<Flex, 3, Int>::ones([batch, seq, seq], &device).bool();
    let masked = host(decoder.forward(ids.clone(), Some(decoder.bias(all))));
    assert_close("all visible", &masked, &bidirectional, 1e-5);
    let causal = host(decoder.forward(ids.clone(), decoder.causal_bias(0, seq, &device)));
    assert!(
        causal[..32]
            .iter()
            .zip(&bidirectional)
            .any(|(a, b)| (a - b).abs() > 0.1)
    );

    // Keys from position 30 on are padding: the rest is as if they were not there.
    let keys: Vec<bool> = (0..seq * seq).map(|i| i % seq < 30).collect();
    let keys = Tensor::from_data(TensorData::new(keys, [1, seq, seq]), &device);
    let padded = decoder
        .forward(ids.clone(), Some(decoder.bias(keys)))
        .narrow(1, 0, 30);
    let short = decoder.forward(ids.narrow(1, 0, 30), None);
    assert_close("padding", &host(padded), &host(short), 1e-5);
}

#[test]
fn top_p_keeps_what_llamas_rule_keeps() {
    let text = std::fs::read_to_string(path("top_p.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    for case in cases {
        let list = |name: &str| case[name].as_array().unwrap().iter();
        let logits: Vec<f64> = list("logits").map(|x| x.as_f64().unwrap()).collect();
        let kept: Vec<u32> = list("kept").map(|x| x.as_u64().unwrap() as u32).collect();
        let (temperature, top_p) = (&case["temperature"], case["top_p"].as_f64().unwrap());
        let weights: Vec<f32> = logits
            .iter()
            .map(|logit| (logit / temperature.as_f64().unwrap()).exp() as f32)
            .collect();
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let got = nucleus(&weights, top_p * total);
        assert_eq!(got.len(), kept.len(), "top_p {top_p}");
        for (got, kept) in got.iter().zip(&kept) {
            // Equal logits may come in either order.
            assert_eq!(logits[*got as usize], logits[*kept as usize]);
        }
    }
}

fn texts_match(tokenizer: &Tokenizer, file: &str) {
    let text = std::fs::read_to_string(path("tokenizer").join(file)).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(rows.len() > 200);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<u32> = row["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect();
        let got = tokenizer.encode(text).unwrap();
        assert_eq!(got, ids, "{text:?}");
        assert_eq!(
            tokenizer.decode(&got),
            row["decoded"].as_str().unwrap(),
            "{text:?}"
        );
    }
}

#[test]
fn a_sentence_piece_model_gives_the_ids_of_sentence_piece() {
    let tokenizer = Tokenizer::from_sentence_piece(&path("tokenizer.model")).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), &[2][..]));
    assert_eq!(tokenizer.vocab_size(), 420);
    texts_match(&tokenizer, "sentence_piece.json");
}

#[test]
fn a_tokenizer_json_gives_the_ids_of_the_python_library() {
    let tokenizer = Tokenizer::from_directory(&path("tokenizer"), None).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), &[1][..]));
    texts_match(&tokenizer, "byte_level.json");
}

#[test]
fn a_directory_that_does_not_fit_is_refused_with_names() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let to = folder.path().join(name);
        std::fs::create_dir_all(&to).unwrap();
        for entry in path(name).read_dir().unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    };
    std::fs::copy(
        path("tokenizer.model"),
        folder.path().join("tokenizer.model"),
    )
    .unwrap();
    let refused = |directory: &Path, words: &[&str]| {
        let loaded =
            Pretrained::<Flex>::load(directory, &LoadOptions::default(), &Default::default());
        let message = loaded.map(|_| ()).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "no `{word}` in: {message}");
        }
    };
    let edit = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from));
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    let llama = copy("llama1");
    let config = llama.join("config.json");
    edit(
        &config,
        "\"num_hidden_layers\": 2",
        "\"num_hidden_layers\": 3",
    );
    refused(
        &llama,
        &["missing (9)", "model.layers.2.mlp.up_proj.weight"],
    );
    edit(
        &config,
        "\"num_hidden_layers\": 3",
        "\"num_hidden_layers\": 1",
    );
    refused(
        &llama,
        &["not in the model (9)", "model.layers.1.mlp.up_proj.weight"],
    );
    edit(
        &config,
        "\"num_hidden_layers\": 1",
        "\"num_hidden_layers\": 2",
    );
    edit(
        &config,
        "\"intermediate_size\": 48",
        "\"intermediate_size\": 64",
    );
    refused(&llama, &["of another shape (6)", "[48, 32]", "[64, 32]"]);
    edit(
        &config,
        "\"intermediate_size\": 64",
        "\"intermediate_size\": 48",
    );
    edit(
        &config,
        "\"tie_word_embeddings\": false",
        "\"tie_word_embeddings\": true",
    );
    refused(&llama, &["tie_word_embeddings", "lm_head.weight"]);

    let tied = copy("llama3_tied");
    let config = tied.join("config.json");
    edit(
        &config,
        "\"tie_word_embeddings\": true",
        "\"tie_word_embeddings\": false",
    );
    refused(&tied, &["missing (1)", "lm_head.weight"]);

    let shards = copy("llama2");
    std::fs::remove_file(shards.join("model-00002-of-00002.safetensors")).unwrap();
    refused(&shards, &["model-00002-of-00002.safetensors"]);
    let meta = copy("meta_sharded");
    std::fs::remove_file(meta.join("consolidated.00.pth")).unwrap();
    refused(&meta, &["consolidated.00.pth"]);
    std::fs::remove_file(meta.join("consolidated.01.pth")).unwrap();
    refused(&meta, &["consolidated"]);

    refused(&folder.path().join("gone"), &["gone", "no such directory"]);
    refused(&folder.path().join("tokenizer.model"), &["a file"]);
    refused(folder.path(), &["config.json", "params.json"]);
    std::fs::remove_file(folder.path().join("tokenizer.model")).unwrap();
    refused(&copy("linear"), &["no tokenizer"]);
    std::fs::write(folder.path().join("linear/tokenizer.model"), "aGVsbG8= 0\n").unwrap();
    refused(&copy("linear"), &["tokenizer.json"]);
    std::fs::write(folder.path().join("linear/tokenizer.model"), [0xff; 40]).unwrap();
    refused(&copy("linear"), &["SentencePiece"]);
}
