//! What a `tokenizer.json` says of its lengths, looked at before the `tokenizers` crate allocates them.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The parts of the file that are looked at.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    added_tokens: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: Model,
}

#[derive(Default, Deserialize)]
struct Model {
    #[serde(default)]
    max_input_chars_per_word: Value,
    #[serde(default)]
    vocab: Pieces,
}

/// Bytes of the longest piece where a vocabulary is a list, as Unigram's is.
#[derive(Default)]
struct Pieces(usize);

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Longest;
        impl<'de> Visitor<'de> for Longest {
            type Value = Pieces;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pieces, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Pieces(0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pieces, A::Error> {
                let mut longest = 0;
                while let Some(piece) = list.next_element::<Value>()? {
                    longest = longest.max(piece[0].as_str().map_or(0, str::len));
                }
                Ok(Pieces(longest))
            }
        }
        json.deserialize_any(Longest)
    }
}

/// Refuses a `tokenizer.json` that would take any memory or time, by some number or length in it:
///
/// - a `precompiled_charsmap` that says that it is longer than it is: what reads it allocates what it says, up to 32 GiB;
/// - replacements that make a text a thousand times as long, one after the other;
/// - a template that names the text twice: every part beyond the context would be joined with every other;
/// - added tokens of kilobytes: looking for them is prepared in a time that goes with the square of their length;
/// - pieces of kilobytes in Unigram, which are nodes inside nodes, and would overflow the stack when they are dropped;
/// - words without an end in WordPiece, which tries every part of a word.
///
/// # Errors
///
/// A sentence about it, also of a file that is no JSON object or has a part twice.
pub fn check_lengths(json: &str) -> Result<(), String> {
    let head: Head = serde_json::from_str(json).map_err(|error| error.to_string())?;
    check_charsmaps(&head.normalizer)?;
    check_growth("normalizers", growth(&head.normalizer))?;
    check_growth("pre-tokenizers", growth(&head.pre_tokenizer))?;
    check_growth("decoders", growth(&head.decoder))?;
    check_templates(&head.post_processor)?;
    check_added(&head.added_tokens)?;
    check_pieces(&head.model.vocab)?;
    check_words(&head.model.max_input_chars_per_word)
}

/// Refuses to write a vocabulary with an id beyond any: whoever writes it lists every id below that has no token.
///
/// # Errors
///
/// A sentence about it.
pub fn check_ids(tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
    let largest = tokenizer.get_vocab(true).into_values().max();
    match largest.filter(|id| *id > MAX_ID) {
        Some(id) => Err(format!("the id {id} is beyond any vocabulary")),
        None => Ok(()),
    }
}

/// Beyond any vocabulary.
const MAX_ID: u32 = 1 << 24;

/// Times that normalizers may make a text longer; Gemma's is 3, of one byte for a blank.
const MAX_GROWTH: usize = 1000;
/// Bytes of an added token, and of a piece of Unigram; the longest that are known are blanks and line breaks, some thirty of them.
const MAX_TOKEN: usize = 256;
/// Letters of a word; BERT's is 100.
const MAX_WORD: u64 = 256;

fn check_charsmaps(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(list) => list.iter().try_for_each(check_charsmaps),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(text) if name == "precompiled_charsmap" => check_length(text),
            other => check_charsmaps(other),
        }),
        _ => Ok(()),
    }
}

fn check_growth(what: &str, growth: usize) -> Result<(), String> {
    match growth > MAX_GROWTH {
        true => Err(format!(
            "its {what} make a text {growth} times as long, more than {MAX_GROWTH}"
        )),
        false => Ok(()),
    }
}

/// By how much normalizers, pre-tokenizers or decoders make a text longer, at most, however deep they lie.
fn growth(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(growth).fold(1, usize::saturating_mul),
        Value::Object(fields) => {
            let text = |value: &Value| value.as_str().map_or(0, str::len);
            let own = match fields.get("type").and_then(Value::as_str) {
                Some("Replace") => {
                    let new = fields.get("content").map_or(0, text);
                    // A regular expression finds a byte, or the place between two.
                    let old = fields.get("pattern").map_or(0, |old| text(&old["String"]));
                    (new.div_ceil(old.max(1)) + usize::from(old == 0)).max(1)
                }
                Some("Prepend") => 1 + fields.get("prepend").map_or(0, text),
                Some("ByteLevel") => 2, // bytes beyond ASCII become letters of two
                _ => 1,
            };
            let inner = fields.values().map(growth);
            inner.fold(own, usize::saturating_mul)
        }
        _ => 1,
    }
}

fn check_templates(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(list) => list.iter().try_for_each(check_templates),
        Value::Object(fields) => {
            let single = fields.get("single").and_then(Value::as_array);
            let pieces = single.into_iter().flatten();
            match pieces
                .filter(|piece| piece.get("Sequence").is_some())
                .count()
            {
                0 | 1 => fields.values().try_for_each(check_templates),
                texts => Err(format!(
                    "the template of its post-processor names the text {texts} times"
                )),
            }
        }
        _ => Ok(()),
    }
}

fn check_added(tokens: &Value) -> Result<(), String> {
    let tokens = tokens.as_array().into_iter().flatten();
    let mut contents = tokens.filter_map(|token| token["content"].as_str());
    match contents.find(|content| content.len() > MAX_TOKEN) {
        Some(content) => {
            let begin: String = content.chars().take(20).collect();
            let length = content.len();
            Err(format!(
                "the added token `{begin}..` has {length} bytes, more than {MAX_TOKEN}"
            ))
        }
        None => Ok(()),
    }
}

fn check_pieces(pieces: &Pieces) -> Result<(), String> {
    match pieces.0 > MAX_TOKEN {
        true => Err(format!(
            "a piece of its vocabulary has {} bytes, more than {MAX_TOKEN}",
            pieces.0
        )),
        false => Ok(()),
    }
}

fn check_words(most: &Value) -> Result<(), String> {
    match most.as_u64().is_some_and(|most| most > MAX_WORD) {
        true => Err(format!(
            "`max_input_chars_per_word` is {most}, more than {MAX_WORD}"
        )),
        false => Ok(()),
    }
}

/// Base64 of a length of four bytes, little-endian, and of as many bytes and more.
fn check_length(text: &str) -> Result<(), String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = text.bytes().take(6);
    let bits = letters.fold(0u64, |bits, letter| {
        let place = LETTERS.iter().position(|known| *known == letter);
        bits << 6 | place.unwrap_or(0) as u64
    });
    let length = ((bits >> 4) as u32).swap_bytes() as usize;
    match text.len() < 6 || length > text.len() / 4 * 3 {
        true => Err(format!(
            "`precompiled_charsmap` says that it has {length} bytes and more, and has {}",
            text.len() / 4 * 3
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_id_of_billions_is_not_written() {
        let json = |id: u32| {
            format!(
                r#"{{"version": "1.0", "model": {{"type": "WordLevel", "vocab": {{"a": {id}}}, "unk_token": "a"}}}}"#
            )
        };
        let check = |id| check_ids(&tokenizers::Tokenizer::from_bytes(json(id)).unwrap());
        assert_eq!(check(7), Ok(()));
        assert!(check(u32::MAX).unwrap_err().contains("4294967295"));
    }

    #[test]
    fn a_map_that_says_it_is_longer_than_it_is_is_refused() {
        let json = |map: &str| {
            format!(
                r#"{{"normalizer": {{"type": "Sequence", "normalizers": [{{"type": "Precompiled", "precompiled_charsmap": "{map}"}}]}}}}"#
            )
        };
        // The lengths 4 and 2³² - 1, then four bytes.
        assert_eq!(check_lengths(&json("BAAAAAAAAAA=")), Ok(()));
        let message = check_lengths(&json("/////wAAAAA=")).unwrap_err();
        assert!(message.contains("4294967295"), "{message}");
        assert!(check_lengths(&json("AA==")).is_err());
        // Whoever reads a part twice would take the second.
        let twice = json("BAAAAAAAAAA=")
            .replace(r#"{"normalizer""#, r#"{"normalizer": null, "normalizer""#);
        let message = check_lengths(&twice).unwrap_err();
        assert!(
            message.contains("duplicate field `normalizer`"),
            "{message}"
        );
        assert!(check_lengths("no JSON").is_err());
    }

    fn refused(json: Value, words: &[&str]) {
        let message = check_lengths(&json.to_string()).unwrap_err();
        for word in words {
            assert!(message.contains(word), "no `{word}` in: {message}");
        }
    }

    fn accepted(json: Value) {
        assert_eq!(check_lengths(&json.to_string()), Ok(()));
    }

    #[test]
    fn replacements_that_make_a_text_a_thousand_times_as_long_are_refused() {
        let replace =
            |old: Value, new: &str| json!({"type": "Replace", "pattern": old, "content": new});
        let gemma = replace(json!({"String": " "}), "▁");
        let double = replace(json!({"Regex": "a"}), "a");
        let sequence = |one: &Value, times: usize| json!({"normalizer": {"type": "Sequence", "normalizers": vec![one; times]}});
        accepted(sequence(&gemma, 6));
        refused(sequence(&gemma, 7), &["2187 times", "1000"]);
        accepted(sequence(&double, 9));
        refused(sequence(&double, 30), &["1073741824 times"]);
        let shorter = replace(json!({"String": "``"}), "\"");
        accepted(sequence(&shorter, 100));
        refused(
            json!({"decoder": vec![double; 30]}),
            &["decoders", "1073741824 times"],
        );
        refused(
            json!({"pre_tokenizer": vec![json!({"type": "ByteLevel"}); 20]}),
            &["pre-tokenizers", "1048576 times"],
        );
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        accepted(json!({"normalizer": [prepend, gemma]}));
    }

    #[test]
    fn a_template_names_the_text_once() {
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let end = json!({"SpecialToken": {"id": "[SEP]", "type_id": 0}});
        let template = |single: &[&Value]| json!({"type": "TemplateProcessing", "single": single, "pair": [text, text]});
        accepted(json!({"post_processor": template(&[&text, &end])}));
        let inside = json!({"type": "Sequence", "processors": [template(&[&text, &end, &text])]});
        refused(
            json!({"post_processor": inside}),
            &["names the text 2 times"],
        );
    }

    #[test]
    fn words_and_added_tokens_have_an_end() {
        let word = |most: u64| json!({"model": {"type": "WordPiece", "max_input_chars_per_word": most, "vocab": {}}});
        accepted(word(100));
        refused(word(1 << 40), &["1099511627776", "256"]);
        let added = |length: usize| json!({"added_tokens": [{"id": 0, "content": "[PAD]"}, {"id": 1, "content": "x".repeat(length)}]});
        accepted(added(256));
        refused(added(257), &["`xxxxxxxxxxxxxxxxxxxx..`", "257 bytes"]);
        let pieces = |length: usize| json!({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["x".repeat(length), -1.0]]}});
        accepted(pieces(256));
        refused(pieces(70_000), &["piece", "70000 bytes"]);
        let words = json!({"model": {"type": "BPE", "vocab": {("x".repeat(70_000)): 0}}});
        accepted(words);
    }

    /// Of ninety tokens, each differs from all others by its first letter only, and the rest of it is the last of them.
    #[test]
    fn the_longest_added_tokens_that_are_allowed_are_read_soon() {
        let added: Vec<Value> = (0..90u8)
            .map(|i| {
                let first = char::from(if i == 89 { b'~' } else { b'!' + i });
                let content = format!("{first}{}", "~".repeat(MAX_TOKEN - 1));
                json!({"id": i, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let vocab: serde_json::Map<String, Value> = added
            .iter()
            .map(|token| {
                (
                    token["content"].as_str().unwrap().into(),
                    token["id"].clone(),
                )
            })
            .collect();
        let json = json!({"version": "1.0", "added_tokens": added, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "!"}});
        let json = json.to_string();
        assert_eq!(check_lengths(&json), Ok(()));
        let begin = std::time::Instant::now();
        tokenizers::Tokenizer::from_bytes(&json).unwrap();
        let seconds = begin.elapsed().as_secs_f64();
        println!("{seconds:.3} s"); // with four times the length, sixteen times as long
        assert!(seconds < 10.0, "{seconds}");
    }
}
