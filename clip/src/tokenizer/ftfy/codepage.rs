//! The single-byte encodings that text is most often mistaken for.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::tokenizer::html::code_points;

/// One single-byte encoding whose lower half is ASCII.
pub(super) struct Codepage {
    /// Name as ftfy spells it; `sloppy-` ones fill their holes with the C1 control of the same
    /// number.
    pub name: &'static str,
    /// Character of the bytes 0x80..=0xFF.
    upper: Vec<char>,
    bytes: HashMap<char, u8>,
}

impl Codepage {
    fn new(name: &'static str, upper: &str) -> Self {
        let upper: Vec<char> = upper.chars().collect();
        let mut bytes: HashMap<char, u8> = upper.iter().copied().zip(0x80..=0xFF).collect();
        // Byte 1A, "substitute", stands for a character that a stricter decoder had lost.
        let substitute = if name.starts_with("sloppy") {
            '\u{fffd}'
        } else {
            '\u{1a}'
        };
        bytes.insert(substitute, 0x1A);
        Self { name, upper, bytes }
    }

    /// The bytes that would decode to `text`, or `None` if this encoding lacks one of the
    /// characters.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let byte = |c: char| match c {
            '\0'..='\u{19}' | '\u{1b}'..='\u{7f}' => Some(c as u8),
            _ => self.bytes.get(&c).copied(),
        };
        text.chars().map(byte).collect()
    }

    /// Character of a byte; only the upper half is looked up.
    pub fn decode(&self, byte: u8) -> char {
        if byte < 0x80 {
            byte as char
        } else {
            self.upper[byte as usize - 0x80]
        }
    }
}

/// All encodings, in the order in which they are tried: Latin-1 first, Windows-1252 second.
pub(super) fn codepages() -> &'static [Codepage] {
    static TABLE: OnceLock<Vec<Codepage>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines = include_str!("../../../assets/tokenizer/codepages.tsv").lines();
        let rows = lines.filter_map(|line| line.split_once('\t'));
        rows.map(|(name, upper)| Codepage::new(name, &code_points(upper)))
            .collect()
    })
}

/// Text → bytes of Latin-1, for texts known to consist of such characters.
pub(super) fn latin1_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

/// Bytes → the text of the characters with the same numbers.
pub(super) fn latin1_text(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| b as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_a_bijection_on_its_upper_half() {
        assert_eq!(codepages().len(), 10);
        for page in codepages() {
            let upper: Vec<u8> = (0x80..=0xFF).collect();
            let text: String = upper.iter().map(|&b| page.decode(b)).collect();
            assert_eq!(page.encode(&text), Some(upper), "{}", page.name);
        }
    }

    #[test]
    fn characters_outside_an_encoding_are_refused() {
        let latin1 = &codepages()[0];
        assert_eq!(
            (latin1.name, latin1.encode("aé\u{1a}")),
            ("latin-1", Some(vec![0x61, 0xE9, 0x1A]))
        );
        assert_eq!(latin1.encode("€"), None);
        assert_eq!(codepages()[1].encode("€\u{fffd}"), Some(vec![0x80, 0x1A]));
    }
}
