//! What a `tokenizer.json` says of its lengths, looked at before the `tokenizers` crate allocates them.

use serde::Deserialize;
use serde_json::Value;

/// The one part of the file that is looked at.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    normalizer: Value,
}

/// Refuses a `tokenizer.json` whose `precompiled_charsmap` says that it is longer than it is: what reads it allocates what it
/// says, up to 32 GiB.
///
/// # Errors
///
/// A sentence about it. What is no JSON is left to others.
pub fn check_charsmap(json: &str) -> Result<(), String> {
    match serde_json::from_str::<Head>(json) {
        Ok(head) => check(&head.normalizer),
        Err(_) => Ok(()),
    }
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

fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(list) => list.iter().try_for_each(check),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(text) if name == "precompiled_charsmap" => check_length(text),
            other => check(other),
        }),
        _ => Ok(()),
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
        assert_eq!(check_charsmap(&json("BAAAAAAAAAA=")), Ok(()));
        let message = check_charsmap(&json("/////wAAAAA=")).unwrap_err();
        assert!(message.contains("4294967295"), "{message}");
        assert!(check_charsmap(&json("AA==")).is_err());
        assert_eq!(check_charsmap("no JSON"), Ok(()));
    }
}
