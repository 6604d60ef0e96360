//! SentencePiece's models, and the configurations of language models.

use crate::{Dice, Said, json};
use clip_burn::llm::{LlamaConfig, Tokenizer};
use serde_json::json;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let of_model = dice.below(3) > 0;
    let model = dice.only(of_model, model);
    let path = said.write("tokenizer.model", model);
    if let Some(tokenizer) = said.hear(Tokenizer::from_sentence_piece(&path)) {
        for text in ["", "a cat", "aaaa", "\u{2581}"] {
            if let Some(ids) = said.hear(tokenizer.encode(text)) {
                tokenizer.decode(&ids);
            }
        }
    }
    let config = json!({
        "model_type": "llama", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0, "eos_token_id": [1, 2], "bos_token_id": 0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64},
    });
    let text = dice.only(!of_model, |dice| json::text(dice, config.clone()));
    if let Ok(value) = serde_json::from_str(&text)
        && let Some(config) = said.hear_of_bytes(LlamaConfig::from_hugging_face(&value))
    {
        config.parameters();
        config.longest_sequence();
        said.hear_of_bytes(LlamaConfig::from_hugging_face(&config.to_hugging_face()));
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn field(dice: &mut Dice, number: u64, content: &[u8]) -> Vec<u8> {
    let length = match dice.below(8) {
        0 => dice.or_number(content.len() as u64),
        _ => content.len() as u64,
    };
    [varint(number << 3 | 2), varint(length), content.to_vec()].concat()
}

fn value(dice: &mut Dice, number: u64, value: u64) -> Vec<u8> {
    let bytes = match dice.bad() {
        true => vec![0xff; dice.below(12)],
        false => varint(dice.or_number(value)),
    };
    [varint(number << 3), bytes].concat()
}

fn model(dice: &mut Dice) -> Vec<u8> {
    let mut file = Vec::new();
    for (text, kind) in [
        ("<unk>", 2),
        ("<s>", 3),
        ("</s>", 3),
        ("\u{2581}", 1),
        ("a", 1),
        ("aa", 1),
        ("\u{2581}a", 1),
        ("c", 1),
        ("ca", 1),
        ("<0x0A>", 6),
    ] {
        let text = match dice.bad() {
            true => match dice.below(3) {
                0 => vec![b'a'; 1 << (8 + dice.below(13))],
                1 => dice.noise(8),
                _ => dice.text().into_bytes(),
            },
            false => text.as_bytes().to_vec(),
        };
        let mut piece = field(dice, 1, &text);
        let score = if dice.bad() {
            *dice.pick(&[f32::NAN, f32::INFINITY, -0.0])
        } else {
            -1.0
        };
        piece.extend(varint(2 << 3 | 5));
        piece.extend(score.to_le_bytes());
        piece.extend(value(dice, 3, kind));
        let piece = field(dice, 1, &piece);
        file.extend(piece);
    }
    let trainer = [value(dice, 3, 2), value(dice, 41, 1), value(dice, 42, 2)].concat();
    file.extend(field(dice, 2, &trainer));
    let normalizer = [value(dice, 3, 1), value(dice, 4, 0)].concat();
    file.extend(field(dice, 3, &normalizer));
    dice.mangled(file)
}
