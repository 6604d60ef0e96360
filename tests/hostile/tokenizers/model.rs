//! Vocabularies and how words become tokens of them.

use crate::Dice;
use serde_json::{Map, Value, json};

/// Tokens in the order of their ids.
const VOCABULARY: &[&str] = &[
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "b",
    "c",
    "t",
    "1",
    "2",
    "_",
    "ab",
    "ca",
    "cat",
    "##a",
    "##b",
    "##t",
    "##at",
    "_a",
    "\u{120}",
    "\u{120}cat",
    "<0x61>",
    "<0x78>",
];
const SPECIAL: &[&str] = &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

pub fn id(token: &str) -> u64 {
    let place = VOCABULARY.iter().position(|known| *known == token);
    place.expect("a token of the vocabulary") as u64
}

fn vocabulary(dice: &mut Dice) -> Value {
    let entries = VOCABULARY.iter().zip(0..);
    let entries = entries.map(|(token, id)| (dice.or_text(token), json!(dice.or_number(id))));
    Value::Object(entries.collect())
}

/// Stands before or behind the parts of a word.
fn affix(dice: &mut Dice, usual: Value) -> Value {
    match dice.bad() {
        true => match dice.below(3) {
            0 => json!(dice.text()),
            _ => json!("x".repeat(1 << (4 + dice.below(14)))),
        },
        false => usual,
    }
}

pub fn model(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => byte_pairs(dice),
        1 => {
            json!({"type": "WordPiece", "vocab": vocabulary(dice), "unk_token": dice.or_text("[UNK]"),
                   "continuing_subword_prefix": affix(dice, json!("##")), "max_input_chars_per_word": dice.or_number(100)})
        }
        2 => {
            json!({"type": "WordLevel", "vocab": vocabulary(dice), "unk_token": dice.or_text("[UNK]")})
        }
        _ => unigram(dice),
    }
}

fn byte_pairs(dice: &mut Dice) -> Value {
    let (prefix, pairs): (Value, &[[&str; 2]]) = match dice.below(4) {
        0 => (json!("##"), &[["a", "##b"], ["c", "##a"]]),
        1 => (json!(""), &[]),
        2 => (json!(""), &[["a", "b"]]),
        _ => (Value::Null, &[["a", "b"], ["c", "a"], ["ca", "t"]]),
    };
    let as_lists = dice.below(2) == 0;
    let merge = |dice: &mut Dice, [left, right]: &[&str; 2]| {
        let (left, right) = (dice.or_text(left), dice.or_text(right));
        match as_lists {
            true => json!([left, right]),
            false => json!(format!("{left} {right}")),
        }
    };
    let mut merges: Vec<Value> = pairs.iter().map(|pair| merge(dice, pair)).collect();
    if dice.bad() {
        let again = 1 << dice.below(16);
        merges = merges.iter().cycle().take(again).cloned().collect();
    }
    let unknown = match dice.below(3) {
        0 => Value::Null,
        _ => json!(dice.or_text("[UNK]")),
    };
    let dropout = match dice.bad() {
        true => json!(*dice.pick(&[0.0, 1.0, -1.0, 2.0])),
        false => Value::Null,
    };
    let suffix = match dice.below(2) {
        0 => json!("</w>"),
        _ => Value::Null,
    };
    json!({"type": "BPE", "vocab": vocabulary(dice), "merges": merges, "unk_token": unknown, "dropout": dropout,
           "byte_fallback": dice.below(2) == 0, "fuse_unk": dice.below(2) == 0, "ignore_merges": dice.below(2) == 0,
           "continuing_subword_prefix": affix(dice, prefix), "end_of_word_suffix": affix(dice, suffix)})
}

fn unigram(dice: &mut Dice) -> Value {
    let piece = |dice: &mut Dice, token: &str, id: usize| {
        let token = match dice.bad() {
            true => match dice.below(2) {
                0 => "a".repeat(1 << dice.below(18)),
                _ => dice.text(),
            },
            false => token.to_string(),
        };
        let score = match dice.bad() {
            true => *dice.pick(&[1e308, -1e308, 0.0, -0.0, 1e-320, 1.0]),
            false => -1.0 - id as f64,
        };
        json!([token, score])
    };
    let pieces = VOCABULARY.iter().enumerate();
    let pieces: Vec<_> = pieces.map(|(id, token)| piece(dice, token, id)).collect();
    let unknown = match dice.bad() {
        true => Value::Null,
        false => json!(dice.or_number(id("[UNK]"))),
    };
    json!({"type": "Unigram", "unk_id": unknown, "byte_fallback": dice.below(2) == 0, "vocab": pieces})
}

/// Tokens that are looked for before all else.
pub fn added(dice: &mut Dice) -> Value {
    let token = |dice: &mut Dice, content: &str, id: u64| {
        let content = match dice.bad() {
            true => match dice.below(3) {
                0 => format!("{}{}", char::from(b'!' + (id % 90) as u8), "a".repeat(255)),
                1 => "x".into(),
                _ => dice.text(),
            },
            false => content.to_string(),
        };
        let mut flag = |of: usize| dice.below(of) == 0;
        let flags = [flag(4), flag(4), flag(4), flag(3), !flag(4)];
        let [single_word, lstrip, rstrip, normalized, special] = flags;
        json!({"id": dice.or_number(id), "content": content, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip,
               "normalized": normalized, "special": special})
    };
    let mut tokens = Vec::new();
    for content in SPECIAL {
        if dice.below(4) > 0 {
            tokens.push(token(dice, content, id(content)));
        }
    }
    match dice.below(3) {
        0 => tokens.push(token(dice, "<new>", VOCABULARY.len() as u64)),
        1 => tokens.push(token(dice, "ab", id("ab"))),
        _ => {}
    }
    if dice.bad() {
        let (times, of) = (1 << dice.below(11), VOCABULARY.len() as u64);
        let many = (0..times).map(|place| token(dice, &format!("{place:x}aaaaaaaa"), of + place));
        tokens.extend(many.collect::<Vec<_>>());
    }
    Value::Array(tokens)
}

/// BERT's vocabulary, a token a line.
pub fn lines(dice: &mut Dice) -> String {
    let end = *dice.pick(&["\n", "\r\n"]);
    let mut lines = String::new();
    for token in VOCABULARY {
        lines += &dice.or_text(token);
        lines += if dice.bad() { "\r" } else { end };
    }
    lines
}

/// CLIP's vocabulary and merges.
pub fn pairs(dice: &mut Dice) -> (Value, String) {
    let tokens = [
        "a",
        "b",
        "c",
        "t",
        "a</w>",
        "b</w>",
        "t</w>",
        "ab",
        "ab</w>",
        "ca",
        "cat</w>",
        "<|startoftext|>",
        "<|endoftext|>",
    ];
    let mut vocab = Map::new();
    for (token, id) in tokens.iter().zip(0..) {
        vocab.insert(dice.or_text(token), json!(dice.or_number(id)));
    }
    let mut merges = match dice.below(2) {
        0 => String::from("#version: 0.2\n"),
        _ => String::new(),
    };
    for merge in ["a b</w>", "a b", "c a", "ca t</w>"] {
        merges += &dice.or_text(merge);
        merges += "\n";
    }
    (Value::Object(vocab), merges)
}
