//! `tokenizer.json`, vocabularies, and the files beside them.

mod model;
mod pipeline;

use crate::{Dice, Said, json};
use clip_burn::clip::tokenizer::{Tokenizer, TokenizerConfig, TokenizerMode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What is hostile; all else is as a tokenizer's makers write it.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Model,
    Added,
    Normalizer,
    PreTokenizer,
    PostProcessor,
    Decoder,
    Json,
    Beside,
    Config,
    Bytes,
}

const PLACES: &[Place] = &[
    Place::Model,
    Place::Model,
    Place::Added,
    Place::Added,
    Place::Normalizer,
    Place::Normalizer,
    Place::PreTokenizer,
    Place::PreTokenizer,
    Place::PostProcessor,
    Place::PostProcessor,
    Place::Decoder,
    Place::Decoder,
    Place::Json,
    Place::Json,
    Place::Beside,
    Place::Config,
    Place::Bytes,
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// BERT's `vocab.txt`.
    Lines,
    /// CLIP's `vocab.json` and `merges.txt`.
    Pairs,
    /// `tokenizer.json`.
    Whole,
}

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let kind = *dice.pick(&[
        Kind::Whole,
        Kind::Whole,
        Kind::Whole,
        Kind::Whole,
        Kind::Lines,
        Kind::Pairs,
    ]);
    let place = match *dice.pick(PLACES) {
        place @ (Place::Beside | Place::Config | Place::Bytes) => place,
        place if kind == Kind::Whole => place,
        _ => Place::Model,
    };
    let here = place != Place::Config && place != Place::Beside;
    let path = dice.only(here, |dice| write(dice, said, kind, place));
    if place == Place::Beside || dice.below(2) == 0 {
        dice.only(place == Place::Beside, |dice| beside(dice, said, kind));
    }
    let config = dice.only(place == Place::Config, |dice| config(dice, kind));
    let hostile = dice.text();
    let words = ["tokenizer configuration: "];
    if let Some(tokenizer) = said.hear_in(Tokenizer::from_file(&path, &config), &words) {
        use_all(said, &tokenizer, &hostile);
        let folder = said.path("saved");
        std::fs::create_dir_all(&folder).expect("a new folder");
        if said.hear(tokenizer.save(&folder)).is_some()
            && let Some(saved) = said.hear_in(Tokenizer::from_file(&folder, &config), &words)
        {
            for text in ["", "ab cat ab", "x<new> [SEP]\u{e9}12"] {
                let (ids, read) = (tokenizer.encode(text), saved.encode(text));
                assert_eq!(
                    ids.ok(),
                    read.ok(),
                    "what was saved reads {text:?} otherwise"
                );
            }
        }
    }
    if kind == Kind::Whole {
        let bos = dice.only(place == Place::Config, |dice| dice.or_number(2));
        of_language_model(said, &path, bos as u32, &hostile);
    }
}

fn use_all(said: &mut Said, tokenizer: &Tokenizer, hostile: &str) {
    let (long, word) = ("cat ab 12 ".repeat(50), "ab".repeat(100));
    for text in ["", "a cat", "ab cat ab", &long, &word, hostile] {
        let words = ["cannot tokenize"];
        said.hear_in(tokenizer.encode(text), &words);
        said.hear_in(tokenizer.pieces(text), &words);
        said.hear_in(tokenizer.is_truncated(text), &words);
        if let Some(batch) = said.hear_in(tokenizer.batch(&[text, "a"]), &words) {
            tokenizer.decode(&batch.ids[..batch.ids.len().min(100)]);
        }
    }
    tokenizer.decode(&[-1, 0, 1, i32::MAX, i32::MIN]);
    tokenizer.decode(&[5, 6, 7, 8].repeat(20));
    let framed = tokenizer.frame(&[1, 2]);
    match tokenizer.frame_ids() {
        Some(_) => drop(said.hear(framed)),
        None => assert!(framed.is_err(), "a post-processor frames texts"),
    }
}

fn of_language_model(said: &mut Said, path: &Path, bos: u32, hostile: &str) {
    let tokenizer = clip_burn::llm::Tokenizer::from_json(path, Some(bos));
    let Some(tokenizer) = said.hear(tokenizer) else {
        return;
    };
    for text in ["", "a cat", "ab [SEP] ab", hostile] {
        if let Some(ids) = said.hear(tokenizer.encode(text)) {
            tokenizer.decode(&ids[..ids.len().min(100)]);
        }
        said.hear(tokenizer.parse(text));
    }
    tokenizer.special_ids();
    tokenizer.special("[SEP]");
    let folder = said.path("saved-too");
    std::fs::create_dir_all(&folder).expect("a new folder");
    if said.hear(tokenizer.save(&folder)).is_some() {
        let saved = clip_burn::llm::Tokenizer::from_directory(&folder, Some(bos));
        said.hear(saved);
    }
}

/// The tokenizer's own file or files.
fn write(dice: &mut Dice, said: &Said, kind: Kind, place: Place) -> PathBuf {
    let (name, content) = match kind {
        Kind::Lines => ("vocab.txt", model::lines(dice)),
        Kind::Pairs => {
            let (vocab, merges) = model::pairs(dice);
            said.write("merges.txt", merges);
            ("vocab.json", vocab.to_string())
        }
        Kind::Whole => {
            let tokenizer = tokenizer(dice, place);
            let text = dice.only(place == Place::Json, |dice| {
                json::text(dice, tokenizer.clone())
            });
            ("tokenizer.json", text)
        }
    };
    let here = place == Place::Bytes;
    let bytes = dice.only(here, |dice| dice.mangled(content.clone().into_bytes()));
    said.write(name, bytes)
}

fn tokenizer(dice: &mut Dice, place: Place) -> Value {
    let lengths = match dice.below(3) {
        0 => (
            json!({"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null,
                   "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}),
            json!({"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 2}),
        ),
        1 => dice.only(place == Place::PostProcessor, pipeline::lengths),
        _ => (Value::Null, Value::Null),
    };
    json!({
        "version": "1.0", "padding": lengths.0, "truncation": lengths.1,
        "added_tokens": dice.only(place == Place::Added, model::added),
        "normalizer": dice.only(place == Place::Normalizer, pipeline::normalizer),
        "pre_tokenizer": dice.only(place == Place::PreTokenizer, pipeline::pre_tokenizer),
        "post_processor": dice.only(place == Place::PostProcessor, pipeline::post_processor),
        "decoder": dice.only(place == Place::Decoder, pipeline::decoder),
        "model": dice.only(place == Place::Model, model::model),
    })
}

/// The files that name special tokens.
fn beside(dice: &mut Dice, said: &Said, kind: Kind) {
    let names: &[&str] = match kind {
        Kind::Pairs => &["<|startoftext|>", "<|endoftext|>", "a"],
        _ => &["[CLS]", "[SEP]", "[PAD]", "cat"],
    };
    let token = |dice: &mut Dice| {
        let name = *dice.pick(names);
        let name = dice.or_text(name);
        match dice.below(2) {
            0 => json!(name),
            _ => json!({"content": name, "lstrip": false}),
        }
    };
    let flag = |dice: &mut Dice| json!(dice.below(2) == 0);
    let config = json!({
        "pad_token": token(dice), "bos_token": token(dice), "eos_token": token(dice), "sep_token": token(dice),
        "cls_token": token(dice), "unk_token": null, "add_bos_token": flag(dice), "add_eos_token": flag(dice),
    });
    said.write("tokenizer_config.json", json::bytes(dice, config));
    if dice.below(3) == 0 {
        let map = json!({"pad_token": token(dice), "additional_special_tokens": [token(dice)]});
        said.write("special_tokens_map.json", json::bytes(dice, map));
    }
}

/// What a model's configuration says of its tokenizer.
fn config(dice: &mut Dice, kind: Kind) -> TokenizerConfig {
    let id = |dice: &mut Dice| dice.bad().then(|| dice.number() as i32);
    let mut config = TokenizerConfig {
        context_length: match dice.bad() {
            true => *dice.pick(&[0, 1, 2, 3, 4, 100_000]),
            false => *dice.pick(&[12, 77]),
        },
        vocab_size: match dice.bad() {
            true => *dice.pick(&[0, 1, 8, usize::MAX]),
            false => *dice.pick(&[64, 49_408]),
        },
        tokenizer_mode: (kind != Kind::Pairs && dice.below(3) == 0).then_some(TokenizerMode::Clips),
        pad_id: id(dice),
        bos_id: id(dice),
        eos_id: id(dice),
        ..TokenizerConfig::default()
    };
    config.tokenizer_kwargs.strip_sep_token = kind != Kind::Pairs && dice.below(4) == 0;
    config
}
