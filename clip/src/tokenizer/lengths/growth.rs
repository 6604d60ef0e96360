//! By how much a text can become longer on its way to the model and back.

use serde_json::{Map, Value};

use super::charsmap;

/// Times that a text may become longer; Gemma's is 3, of one byte for a blank.
const MAX_GROWTH: usize = 1000;

/// One after the other; each walks over all parts of a text. Released tokenizers have ten at most.
const MAX_STEPS: usize = 64;

/// Bytes of what is looked for in a text; the longest expressions that are known have a thousand.
const MAX_PATTERN: usize = 4096;

/// Refuses normalizers, pre-tokenizers or decoders that are too many, look for something too long, or make a text too long.
pub fn check(what: &str, value: &Value) -> Result<(), String> {
    let pattern = longest_pattern(value);
    if pattern > MAX_PATTERN {
        return Err(format!(
            "a pattern of its {what} has {pattern} bytes, more than {MAX_PATTERN}"
        ));
    }
    match (steps(value), growth(value)) {
        (steps, _) if steps > MAX_STEPS => {
            Err(format!("it has {steps} {what}, more than {MAX_STEPS}"))
        }
        (_, growth) if growth > MAX_GROWTH => Err(format!(
            "its {what} make a text {growth} times as long, more than {MAX_GROWTH}"
        )),
        _ => Ok(()),
    }
}

/// Normalizers, pre-tokenizers or decoders in a sequence, however deep they lie.
fn steps(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len() + list.iter().map(steps).sum::<usize>(),
        Value::Object(fields) => fields.values().map(steps).sum(),
        _ => 0,
    }
}

/// Bytes of the longest pattern, however deep it lies.
fn longest_pattern(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(longest_pattern).max().unwrap_or(0),
        Value::Object(fields) => {
            let own = ["String", "Regex"].map(|kind| match fields.get("pattern") {
                Some(pattern) => pattern[kind].as_str().map_or(0, str::len),
                None => 0,
            });
            let inner = fields.values().map(longest_pattern);
            inner.chain(own).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// By how much normalizers, pre-tokenizers or decoders make a text longer, at most, however deep they lie.
pub fn growth(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(growth).fold(1, usize::saturating_mul),
        Value::Object(fields) => {
            let inner = fields.values().map(growth);
            inner.fold(of_one(fields), usize::saturating_mul)
        }
        _ => 1,
    }
}

/// That of one of them. It is known by its fields: most are read without their `type` too.
fn of_one(fields: &Map<String, Value>) -> usize {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let replaced = match (fields.get("pattern"), text("content")) {
        (Some(old), Some(new)) => {
            // A regular expression finds a byte, or the place between two.
            let old = old["String"].as_str().map_or(0, str::len);
            new.len().div_ceil(old.max(1)) + usize::from(old == 0)
        }
        _ => 1,
    };
    let prepended = 1 + text("prepend").map_or(0, str::len);
    let mapped = text("precompiled_charsmap").map_or(1, charsmap::longest);
    // Metaspace: one before each part, and one for each blank.
    let spaced = text("replacement").map_or(1, |letter| 2 * letter.len());
    // What decoders make a blank of; nothing is found beside every letter.
    let blanks = ["suffix", "word_delimiter_token"].map(text);
    let parted = if blanks.contains(&Some("")) { 3 } else { 1 };
    // Bytes beyond ASCII become letters of two, a blank before the text among them.
    let byte_level = text("type") == Some("ByteLevel") || fields.contains_key("trim_offsets");
    let blank = fields.get("add_prefix_space") == Some(&Value::Bool(true));
    let spelled = if byte_level {
        2 + usize::from(blank)
    } else {
        1
    };
    let all = [replaced, prepended, mapped, spaced, parted, spelled];
    all.into_iter()
        .map(|one| one.max(1))
        .fold(1, usize::saturating_mul)
}
