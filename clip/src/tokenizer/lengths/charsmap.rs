//! SentencePiece's `precompiled_charsmap`: the length of a trie, the trie, then the replacements, each with a zero behind it.

use serde_json::Value;

/// Refuses maps that say that they are longer than they are.
pub fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(list) => list.iter().try_for_each(check),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(text) if name == "precompiled_charsmap" => check_length(text),
            other => check(other),
        }),
        _ => Ok(()),
    }
}

fn check_length(text: &str) -> Result<(), String> {
    let length = trie(text);
    match text.len() < 6 || length > text.len() / 4 * 3 {
        true => Err(format!(
            "`precompiled_charsmap` says that it has {length} bytes and more, and has {}",
            text.len() / 4 * 3
        )),
        false => Ok(()),
    }
}

/// Bytes of the trie, as the map says.
fn trie(text: &str) -> usize {
    let mut length = [0; 4];
    for (place, byte) in length.iter_mut().zip(bytes(text)) {
        *place = byte;
    }
    u32::from_le_bytes(length) as usize
}

/// Bytes of the longest replacement.
pub fn longest(text: &str) -> usize {
    let (mut longest, mut length) = (0, 0);
    for byte in bytes(text).skip(4usize.saturating_add(trie(text))) {
        length = if byte == 0 { 0 } else { length + 1 };
        longest = longest.max(length);
    }
    longest
}

/// What Base64 stands for; what is no letter of it is nothing.
fn bytes(text: &str) -> impl Iterator<Item = u8> + '_ {
    let value = |letter: &u8| {
        Some(match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    text.as_bytes().chunks(4).flat_map(move |four| {
        let values = four.iter().filter_map(value);
        let (bits, letters) = values.fold((0u32, 0), |(bits, letters), value| {
            (bits << 6 | u32::from(value), letters + 1)
        });
        let bytes = (bits << (6 * (4 - letters))).to_be_bytes();
        bytes.into_iter().skip(1).take((letters * 6 / 8) as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_replacement_is_found_behind_the_trie() {
        // The length 4, four bytes, then `bb`, and forty times `c`.
        assert_eq!(longest("BAAAAAAAAABiYgA="), 2);
        let two = "BAAAAAAAAABiYgBjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjAA==";
        assert_eq!(longest(two), 40);
        assert_eq!(longest("BAAAAAAAAAA="), 0);
        assert_eq!(longest(""), 0);
    }
}
