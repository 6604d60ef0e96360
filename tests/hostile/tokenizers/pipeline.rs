//! What happens to a text before and behind the model.

use super::model::id;
use crate::Dice;
use serde_json::{Value, json};

/// None, one, some, or where it is hostile very many or one inside the other.
fn sequence(dice: &mut Dice, field: &str, one: fn(&mut Dice) -> Value) -> Value {
    let mut all: Vec<Value> = (0..dice.below(4)).map(|_| one(dice)).collect();
    if dice.bad() {
        let (times, one, other) = (1 << dice.below(9), one(dice), one(dice));
        all.extend([one, other].iter().cycle().take(times).cloned());
    }
    if dice.bad() {
        // Some are known by their other fields.
        let fields = all.iter_mut().filter_map(Value::as_object_mut);
        fields.for_each(|fields| drop(fields.shift_remove("type")));
    }
    let mut whole = match all.len() {
        0 => return Value::Null,
        1 if dice.below(2) == 0 => all.remove(0),
        _ => json!({"type": "Sequence", field: all}),
    };
    if dice.bad() {
        (0..40).for_each(|_| whole = json!({"type": "Sequence", field: [whole.take()]}));
    }
    whole
}

fn pattern(dice: &mut Dice) -> Value {
    if !dice.bad() {
        return match dice.below(4) {
            0 => json!({"String": " "}),
            1 => json!({"String": "a"}),
            2 => json!({"Regex": "[0-9]"}),
            _ => json!({"Regex": r"\s+"}),
        };
    }
    match dice.below(10) {
        0 => json!({"String": ""}),
        1 => json!({"String": dice.text()}),
        2 => json!({"Regex": dice.text()}),
        3 => json!({"Regex": ""}),
        4 => json!({"Regex": "(a*)*b"}),
        5 => json!({"Regex": "(?=a)|$"}),
        6 => json!({"Regex": r"(x+x+)+(?=y)\1"}),
        7 => json!({"Regex": r"(?:[a-z]{1000}){1000}"}),
        8 => json!({"Regex": "(".repeat(5000)}),
        _ => json!({"Regex": "."}),
    }
}

/// What something is replaced by, or what is put before it.
fn content(dice: &mut Dice, usual: &str) -> String {
    match dice.bad() {
        true => match dice.below(3) {
            0 => dice.text(),
            1 => String::new(),
            _ => "a".repeat(1 << dice.below(16)),
        },
        false => usual.to_string(),
    }
}

fn replace(dice: &mut Dice) -> Value {
    json!({"type": "Replace", "pattern": pattern(dice), "content": content(dice, "_")})
}

fn byte_level(dice: &mut Dice) -> Value {
    let prefix = dice.below(2) == 0;
    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": dice.below(2) == 0})
}

fn metaspace(dice: &mut Dice) -> Value {
    let letter = *dice.pick(&["_", "\u{2581}", "-"]);
    let scheme = *dice.pick(&["always", "first", "never"]);
    json!({"type": "Metaspace", "replacement": dice.or_text(letter), "prepend_scheme": scheme, "split": dice.below(3) > 0})
}

pub fn normalizer(dice: &mut Dice) -> Value {
    sequence(dice, "normalizers", |dice| match dice.below(9) {
        0 => replace(dice),
        1 => json!({"type": "Prepend", "prepend": content(dice, "_")}),
        2 => json!({"type": "Precompiled", "precompiled_charsmap": base64(&charsmap(dice))}),
        3 => {
            let strip = [json!(null), json!(true), json!(false)][dice.below(3)].clone();
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": strip,
                   "lowercase": dice.below(2) == 0})
        }
        4 => json!({"type": "Strip", "strip_left": true, "strip_right": dice.below(2) == 0}),
        5 => json!({"type": "ByteLevel"}),
        _ => {
            let names = [
                "NFC",
                "NFD",
                "NFKC",
                "NFKD",
                "Nmt",
                "StripAccents",
                "Lowercase",
            ];
            json!({"type": *dice.pick(&names)})
        }
    })
}

/// SentencePiece's map: a trie of bytes in which only `b` is found, and what stands in its place.
fn charsmap(dice: &mut Dice) -> Vec<u8> {
    const LEAF: u64 = 1 << 8;
    let mut units = [0u64; 256];
    // The value of a leaf lies where its own place and the number above its tenth bit differ.
    let key = u64::from(b'b');
    units[key as usize] = dice.or_number(key | LEAF | 1 << 10);
    units[(key ^ 1) as usize] = dice.or_number(0);
    if dice.bad() {
        units[dice.below(256)] = dice.number();
    }
    let mut bytes = (dice.or_number(4 * 256) as u32).to_le_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| (*unit as u32).to_le_bytes()));
    bytes.extend(match dice.bad() {
        true => match dice.below(3) {
            0 => dice.noise(9),
            _ => "b".repeat(1 << dice.below(17)).into_bytes(),
        },
        false => b"bb\0".to_vec(),
    });
    bytes
}

fn base64(bytes: &[u8]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, place| {
            bits << 8 | usize::from(*three.get(place).unwrap_or(&0))
        });
        for place in 0..4 {
            let letter = letters[bits >> (18 - 6 * place) & 63];
            text.push(if place > three.len() {
                '='
            } else {
                letter.into()
            });
        }
    }
    text
}

/// What becomes of the places where a text is split.
const BEHAVIORS: &[&str] = &[
    "Removed",
    "Isolated",
    "MergedWithPrevious",
    "MergedWithNext",
    "Contiguous",
];

fn behavior(dice: &mut Dice) -> &'static str {
    BEHAVIORS[dice.below(BEHAVIORS.len())]
}

pub fn pre_tokenizer(dice: &mut Dice) -> Value {
    sequence(dice, "pretokenizers", |dice| match dice.below(9) {
        0 => byte_level(dice),
        1 | 2 => metaspace(dice),
        3 => {
            json!({"type": "Split", "pattern": pattern(dice), "behavior": behavior(dice), "invert": dice.below(2) == 0})
        }
        4 => json!({"type": "Digits", "individual_digits": dice.below(2) == 0}),
        5 => json!({"type": "CharDelimiterSplit", "delimiter": dice.or_text("b")}),
        6 => json!({"type": "FixedLength", "length": dice.or_number(2)}),
        7 => json!({"type": "Punctuation", "behavior": behavior(dice)}),
        _ => {
            let names = [
                "Whitespace",
                "WhitespaceSplit",
                "BertPreTokenizer",
                "UnicodeScripts",
            ];
            json!({"type": *dice.pick(&names)})
        }
    })
}

/// Special tokens around a text, and around a pair of them.
fn template(dice: &mut Dice) -> Value {
    let special = |dice: &mut Dice, token: &str| json!({"SpecialToken": {"id": dice.or_text(token), "type_id": dice.or_number(0)}});
    let text = |dice: &mut Dice, which: &str| json!({"Sequence": {"id": which, "type_id": dice.or_number(0)}});
    let mut single = vec![text(dice, "A")];
    if dice.below(2) == 0 {
        single.insert(0, special(dice, "[CLS]"));
    }
    if dice.below(3) > 0 {
        single.push(special(dice, "[SEP]"));
    }
    if dice.bad() {
        let (what, times) = (special(dice, "[CLS]"), 1 << dice.below(11));
        single.extend(vec![what; times]);
    }
    if dice.bad() {
        let which = *dice.pick(&["A", "B"]);
        single.push(text(dice, which));
    }
    let pair = [text(dice, "A"), special(dice, "[SEP]"), text(dice, "B")];
    let token = |dice: &mut Dice, token: &str| {
        let times = if dice.bad() { 1 << dice.below(12) } else { 1 };
        let names = if dice.bad() { dice.below(9) } else { times };
        json!({"id": token, "ids": vec![dice.or_number(id(token)); times], "tokens": vec![token; names]})
    };
    let special_tokens = json!({"[CLS]": token(dice, "[CLS]"), "[SEP]": token(dice, "[SEP]")});
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special_tokens})
}

pub fn post_processor(dice: &mut Dice) -> Value {
    let pair =
        |dice: &mut Dice, token: &str| json!([dice.or_text(token), dice.or_number(id(token))]);
    match dice.below(6) {
        0 | 1 => template(dice),
        2 => {
            json!({"type": "BertProcessing", "sep": pair(dice, "[SEP]"), "cls": pair(dice, "[CLS]")})
        }
        3 => {
            json!({"type": "RobertaProcessing", "sep": pair(dice, "[SEP]"), "cls": pair(dice, "[CLS]"), "trim_offsets": true,
                   "add_prefix_space": dice.below(2) == 0})
        }
        4 => {
            let times = if dice.bad() { 1 << dice.below(6) } else { 1 };
            let mut processors = vec![byte_level(dice)];
            processors.extend(vec![template(dice); times]);
            json!({"type": "Sequence", "processors": processors})
        }
        _ => match dice.below(2) {
            0 => byte_level(dice),
            _ => Value::Null,
        },
    }
}

pub fn decoder(dice: &mut Dice) -> Value {
    sequence(dice, "decoders", |dice| match dice.below(10) {
        0 => replace(dice),
        1 => byte_level(dice),
        2 => metaspace(dice),
        3 => {
            json!({"type": "WordPiece", "prefix": content(dice, "##"), "cleanup": dice.below(2) == 0})
        }
        4 => json!({"type": "BPEDecoder", "suffix": content(dice, "</w>")}),
        5 => {
            json!({"type": "CTC", "pad_token": content(dice, "[PAD]"), "word_delimiter_token": content(dice, "|"), "cleanup": true})
        }
        6 => {
            json!({"type": "Strip", "content": dice.or_text(" "), "start": dice.or_number(1), "stop": dice.or_number(0)})
        }
        7 => json!({"type": "ByteFallback"}),
        _ => json!({"type": "Fuse"}),
    })
}

/// Lengths of rows, which belong to a model and not to its tokenizer.
pub fn lengths(dice: &mut Dice) -> (Value, Value) {
    let padding = json!({"strategy": {"Fixed": dice.or_number(8)}, "direction": "Left", "pad_to_multiple_of": dice.or_number(8),
                         "pad_id": dice.or_number(0), "pad_type_id": 0, "pad_token": dice.or_text("[PAD]")});
    let truncation = json!({"direction": "Left", "max_length": dice.or_number(8), "strategy": "OnlyFirst",
                            "stride": dice.or_number(2)});
    (padding, truncation)
}
