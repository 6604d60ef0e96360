//! Writes CLIP's vocabulary as the files that Hugging Face's libraries read.
//!
//! On text that cleaning leaves alone the written tokenizer gives the ids of [`Bpe`]. It differs as
//! the published `openai/clip-vit-*` tokenizers do: no repair of damaged text, no HTML references,
//! and padding by `<|endoftext|>` in place of 0, which `argmax` pooling does not see.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::TokenizerError;
use super::bpe::{Bpe, END_OF_TEXT_ID, END_OF_WORD, START_OF_TEXT_ID};
use super::error::write_text;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`, `vocab.json` and
/// `merges.txt`.
pub(super) fn save(bpe: &Bpe, dir: &Path, context_length: usize) -> Result<(), TokenizerError> {
    let spellings = bpe.spellings();
    let mut vocab: Map<String, Value> = spellings
        .iter()
        .zip(0..)
        .map(|(token, id): (_, i32)| (token.clone(), id.into()))
        .collect();
    vocab.insert(START.to_owned(), START_OF_TEXT_ID.into());
    vocab.insert(END.to_owned(), END_OF_TEXT_ID.into());
    let merges: Vec<String> = bpe
        .pairs()
        .iter()
        .map(|&(left, right)| format!("{} {}", spellings[left as usize], spellings[right as usize]))
        .collect();
    let special = json!({"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END});
    let mut config = json!({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": context_length, "do_lower_case": true,
        "add_prefix_space": false, "errors": "replace",
    });
    if let (Value::Object(config), Value::Object(special)) = (&mut config, &special) {
        config.extend(special.clone());
    }
    write_text(
        &dir.join("vocab.json"),
        &Value::Object(vocab.clone()).to_string(),
    )?;
    write_text(
        &dir.join("merges.txt"),
        &format!("#version: 0.2\n{}\n", merges.join("\n")),
    )?;
    write_text(
        &dir.join("special_tokens_map.json"),
        &format!("{special:#}\n"),
    )?;
    write_text(&dir.join("tokenizer_config.json"), &format!("{config:#}\n"))?;
    write_text(
        &dir.join("tokenizer.json"),
        &tokenizer_json(vocab, merges).to_string(),
    )
}

fn tokenizer_json(vocab: Map<String, Value>, merges: Vec<String>) -> Value {
    let added = |id: i32, content: &str, normalized: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": normalized, "special": true})
    };
    let split = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [added(START_OF_TEXT_ID, START, true), added(END_OF_TEXT_ID, END, false)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": split}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, END_OF_TEXT_ID],
            "cls": [START, START_OF_TEXT_ID], "trim_offsets": false, "add_prefix_space": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
            "end_of_word_suffix": END_OF_WORD, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": merges},
    })
}
