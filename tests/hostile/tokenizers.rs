//! `tokenizer.json`, vocabularies, and the files beside them.

use crate::{Dice, Said, json};
use clip_burn::clip::tokenizer::{Tokenizer, TokenizerConfig, TokenizerMode};
use serde_json::{Value, json};

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let kind = dice.below(6);
    let path = match kind {
        0 => {
            let mut lines = Vec::new();
            for token in [
                "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "cat",
            ] {
                lines.extend(dice.or_text(token).into_bytes());
                lines.extend(if dice.bad() { &b"\r"[..] } else { b"\n" });
            }
            let lines = dice.mangled(lines);
            said.write("vocab.txt", lines)
        }
        1 => {
            let vocab = json!({"<|startoftext|>": dice.or_number(4), "<|endoftext|>": 5, "a": 0, "b</w>": 1, "ab</w>": dice.or_number(2), "c": 3});
            let mut merges = String::from("#version: 0.2\n");
            for _ in 0..1 + dice.below(3) {
                merges += &dice.or_text("a b</w>");
                merges += "\n";
            }
            said.write("merges.txt", merges);
            let vocab = json::bytes(dice, vocab);
            said.write("vocab.json", vocab)
        }
        _ => {
            let tokenizer = tokenizer(dice);
            let tokenizer = json::bytes(dice, tokenizer);
            said.write("tokenizer.json", tokenizer)
        }
    };
    let token = |dice: &mut Dice| match dice.bad() {
        true => Value::String(dice.text()),
        false => json!({"content": *dice.pick(&["a", "[SEP]", "[PAD]", "cat"])}),
    };
    if dice.below(2) == 0 {
        let config = json!({
            "pad_token": token(dice), "bos_token": token(dice), "eos_token": token(dice), "sep_token": token(dice),
            "cls_token": token(dice), "add_bos_token": dice.bad(), "add_eos_token": dice.bad(),
        });
        let config = json::bytes(dice, config);
        said.write("tokenizer_config.json", config);
    }
    let mut config = TokenizerConfig {
        context_length: if dice.bad() {
            *dice.pick(&[0, 1, 2, 3, 4, 100_000])
        } else {
            12
        },
        vocab_size: *dice.pick(&[49_408, 8, 1, usize::MAX]),
        tokenizer_mode: dice.bad().then_some(TokenizerMode::Clips),
        pad_id: dice.bad().then(|| dice.number() as i32),
        bos_id: dice.bad().then(|| dice.number() as i32),
        eos_id: dice.bad().then(|| dice.number() as i32),
        ..TokenizerConfig::default()
    };
    config.tokenizer_kwargs.strip_sep_token = dice.bad();
    if let Some(tokenizer) = said.hear_in(
        Tokenizer::from_file(&path, &config),
        &["tokenizer configuration: "],
    ) {
        let long = "cat ab 12 ".repeat(50);
        let hostile = dice.text();
        for text in ["", "a cat", "ab cat ab", &long, &hostile] {
            let words = ["cannot tokenize"];
            said.hear_in(tokenizer.encode(text), &words);
            said.hear_in(tokenizer.pieces(text), &words);
            said.hear_in(tokenizer.is_truncated(text), &words);
            said.hear_in(tokenizer.frame(&[1, 2]), &["tokenizer configuration: "]);
            if let Some(batch) = said.hear_in(tokenizer.batch(&[text, "a"]), &words) {
                tokenizer.decode(&batch.ids[..batch.ids.len().min(100)]);
            }
        }
        tokenizer.decode(&[-1, 0, 1, i32::MAX, i32::MIN]);
        let folder = said.path("saved");
        std::fs::create_dir_all(&folder).expect("a new folder");
        said.hear(tokenizer.save(&folder));
    }
    if kind > 1
        && let Some(tokenizer) = said.hear(clip_burn::llm::Tokenizer::from_json(
            &path,
            Some(dice.or_number(1) as u32),
        ))
    {
        for text in ["", "a cat", "ab cat ab"] {
            if let Some(ids) = said.hear(tokenizer.encode(text)) {
                tokenizer.decode(&ids);
            }
            said.hear(tokenizer.parse(text));
        }
        tokenizer.special_ids();
    }
}

fn tokenizer(dice: &mut Dice) -> Value {
    let vocab = json!({"[PAD]": 0, "[SEP]": 1, "a": 2, "b": 3, "ab": 4, "cat": dice.or_number(5), "c": 6, "t": 7});
    let model = match dice.below(4) {
        0 => {
            let merges = match dice.below(2) {
                0 => json!([["a", "b"], [dice.or_text("c"), dice.or_text("a")]]),
                _ => json!(["a b", dice.or_text("c t")]),
            };
            json!({"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": dice.or_text("a"), "dropout": null,
                   "byte_fallback": dice.bad(), "fuse_unk": true, "continuing_subword_prefix": null, "end_of_word_suffix": null})
        }
        1 => {
            json!({"type": "WordPiece", "vocab": vocab, "unk_token": dice.or_text("a"), "continuing_subword_prefix": dice.or_text("##"),
                    "max_input_chars_per_word": dice.or_number(100)})
        }
        2 => json!({"type": "WordLevel", "vocab": vocab, "unk_token": dice.or_text("a")}),
        _ => json!({"type": "Unigram", "unk_id": dice.or_number(0), "byte_fallback": dice.bad(),
                    "vocab": [["<unk>", 0.0], [dice.or_text("a"), -1.0], ["cat", -2.5], ["[SEP]", -3.0], ["[PAD]", -3.0]]}),
    };
    let added = |dice: &mut Dice, id: u64, content: &str| {
        json!({"id": dice.or_number(id), "content": dice.or_text(content), "single_word": dice.bad(), "lstrip": dice.bad(),
               "rstrip": dice.bad(), "normalized": dice.bad(), "special": !dice.bad()})
    };
    let pattern = |dice: &mut Dice| match dice.below(4) {
        0 => json!({"String": dice.or_text("a")}),
        1 => json!({"Regex": "(a*)*b"}),
        2 => json!({"Regex": dice.or_text("(?=a)|$")}),
        _ => json!({"Regex": r"\s+"}),
    };
    let one = |dice: &mut Dice| match dice.below(10) {
        0 => json!({"type": "Replace", "pattern": pattern(dice), "content": "aa"}),
        1 => json!({"type": "Prepend", "prepend": dice.or_text("_")}),
        2 => {
            json!({"type": "Precompiled", "precompiled_charsmap": *dice.pick(&["AAAA", "////fwAAAAA=", "BAAAAP////9h"])})
        }
        3 => {
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true})
        }
        4 => json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        5 => json!({"type": "ByteLevel"}),
        6 => {
            json!({"type": *dice.pick(&["NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents", "Lowercase"])})
        }
        _ => json!({"type": "Lowercase"}),
    };
    let mut normalizers: Vec<Value> = (0..dice.below(4)).map(|_| one(dice)).collect();
    if dice.bad() {
        let (what, times) = (one(dice), 1 << dice.below(9));
        normalizers.extend(std::iter::repeat_n(what, times));
    }
    let mut normalizer = json!({"type": "Sequence", "normalizers": normalizers});
    if dice.bad() {
        (0..40).for_each(|_| normalizer = json!({"type": "Sequence", "normalizers": [normalizer]}));
    }
    let splitter = match dice.below(8) {
        0 => {
            json!({"type": "Split", "pattern": pattern(dice), "behavior": "Isolated", "invert": dice.bad()})
        }
        1 => {
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
        }
        2 => {
            json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true})
        }
        3 => json!({"type": "Digits", "individual_digits": true}),
        4 => json!({"type": "CharDelimiterSplit", "delimiter": "a"}),
        5 => json!({"type": "FixedLength", "length": dice.or_number(2)}),
        6 => Value::Null,
        _ => json!({"type": "Whitespace"}),
    };
    let splitter = match dice.bad() {
        true => json!({"type": "Sequence", "pretokenizers": vec![splitter; 1 << dice.below(9)]}),
        false => splitter,
    };
    let piece = |dice: &mut Dice| match dice.below(3) {
        0 => json!({"SpecialToken": {"id": dice.or_text("[SEP]"), "type_id": 0}}),
        _ => {
            json!({"Sequence": {"id": if dice.bad() { "B" } else { "A" }, "type_id": dice.or_number(0)}})
        }
    };
    let many = if dice.bad() { 2000 } else { 3 };
    let single: Vec<Value> = (0..1 + dice.below(many)).map(|_| piece(dice)).collect();
    let ids: Vec<u64> = (0..1 + dice.below(2)).map(|_| dice.or_number(1)).collect();
    let post = match dice.below(5) {
        0 => json!({"type": "TemplateProcessing", "single": single, "pair": single,
                    "special_tokens": {"[SEP]": {"id": "[SEP]", "ids": ids, "tokens": ["[SEP]"]}}}),
        1 => {
            json!({"type": "BertProcessing", "sep": ["[SEP]", dice.or_number(1)], "cls": ["a", dice.or_number(2)]})
        }
        2 => {
            json!({"type": "RobertaProcessing", "sep": ["[SEP]", 1], "cls": ["a", 2], "trim_offsets": true, "add_prefix_space": dice.bad()})
        }
        3 => {
            json!({"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
                    {"type": "BertProcessing", "sep": ["[SEP]", 1], "cls": ["a", 2]}]})
        }
        _ => Value::Null,
    };
    let padding = match dice.bad() {
        false => Value::Null,
        true => {
            json!({"strategy": {"Fixed": dice.number()}, "direction": "Right", "pad_to_multiple_of": dice.or_number(0),
                       "pad_id": dice.or_number(0), "pad_type_id": 0, "pad_token": dice.or_text("[PAD]")})
        }
    };
    let truncation = match dice.bad() {
        false => Value::Null,
        true => {
            json!({"direction": "Right", "max_length": dice.number(), "strategy": "LongestFirst", "stride": dice.or_number(0)})
        }
    };
    let decoder = match dice.below(5) {
        0 => {
            json!({"type": "Sequence", "decoders": vec![json!({"type": "Replace", "pattern": pattern(dice), "content": "aa"}); 1 + dice.below(60)]})
        }
        1 => {
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
        }
        2 => json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": dice.or_number(1), "stop": dice.or_number(0)}]}),
        3 => json!({"type": "WordPiece", "prefix": dice.or_text("##"), "cleanup": true}),
        _ => Value::Null,
    };
    json!({
        "version": "1.0", "truncation": truncation, "padding": padding,
        "added_tokens": [added(dice, 0, "[PAD]"), added(dice, 1, "[SEP]")],
        "normalizer": normalizer, "pre_tokenizer": splitter, "post_processor": post, "decoder": decoder, "model": model,
    })
}
