//! Undoes decodings by the wrong encoding: UTF-8 that was read as Windows-1252 and the like.

use std::sync::OnceLock;

use fancy_regex::{Captures, Regex};

use super::codepage::{codepages, latin1_bytes, latin1_text};

/// ftfy's heuristics. The byte patterns run on the Latin-1 text of the bytes.
struct Patterns {
    /// Sequences of characters that hardly occur in undamaged text.
    badness: Regex,
    /// Runs that look like UTF-8 in some single-byte encoding.
    utf8_detector: Regex,
    /// Bytes that would be UTF-8 if a space in them were 0xA0.
    altered_utf8: Regex,
    /// UTF-8 with lost continuation bytes.
    lossy_utf8: Regex,
    /// A lone `Ã `, which was the word "à".
    a_grave_word: Regex,
}

fn patterns() -> &'static Patterns {
    static PATTERNS: OnceLock<Patterns> = OnceLock::new();
    PATTERNS.get_or_init(|| {
        let file = include_str!("../../../assets/tokenizer/mojibake_patterns.tsv");
        let pattern = |name: &str| {
            let line = file
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
            Regex::new(line.expect("the embedded table has this pattern")).expect("it compiles")
        };
        Patterns {
            badness: pattern("badness"),
            utf8_detector: pattern("utf8_detector"),
            altered_utf8: pattern("altered_utf8"),
            lossy_utf8: pattern("lossy_utf8"),
            a_grave_word: pattern("a_grave_word"),
        }
    })
}

/// Undoes layer after layer of wrong decoding until the text looks right or nothing helps.
pub(super) fn fix_encoding(mut text: String) -> String {
    for _ in 0..super::MAX_ROUNDS {
        if text.is_ascii() || !is_bad(&text) {
            break;
        }
        match fix_one_layer(&text) {
            Some(fixed) if fixed != text => text = fixed,
            _ => break,
        }
    }
    text
}

/// A regex that fails at run time (its backtracking limit) finds nothing: the text then stays as it
/// is.
fn is_match(regex: &Regex, text: &str) -> bool {
    regex.is_match(text).unwrap_or(false)
}

fn is_bad(text: &str) -> bool {
    is_match(&patterns().badness, text)
}

fn fix_one_layer(text: &str) -> Option<String> {
    // The usual case: the whole text was UTF-8, read as one of these.
    for page in codepages() {
        let Some(bytes) = page.encode(text) else {
            continue;
        };
        if let Some(fixed) = decode_utf8(&repair_bytes(bytes, page.name)) {
            return Some(fixed);
        }
    }
    // Only parts of it were.
    let fixed = decode_inconsistent_utf8(text);
    if fixed != text {
        return Some(fixed);
    }
    // No UTF-8: Windows-1252 read as Latin-1 leaves C1 controls behind.
    let windows_1252 = &codepages()[1];
    let is_c1 = |c: char| matches!(c, '\u{80}'..='\u{9f}');
    text.contains(is_c1).then(|| {
        text.chars()
            .map(|c| {
                if is_c1(c) {
                    windows_1252.decode(c as u8)
                } else {
                    c
                }
            })
            .collect()
    })
}

/// Puts back what often gets lost between a wrong decoding and us.
fn repair_bytes(mut bytes: Vec<u8>, encoding: &str) -> Vec<u8> {
    let patterns = patterns();
    let mut text = latin1_text(&bytes);
    // In MacRoman the byte before the space would be a dash, which is no sign of damage.
    if encoding != "macroman" && is_match(&patterns.altered_utf8, &text) {
        text = patterns
            .a_grave_word
            .replace_all(&text, "\u{c3}\u{a0} ")
            .into_owned();
        let no_break = |found: &Captures| found[0].replace(' ', "\u{a0}");
        text = patterns
            .altered_utf8
            .replace_all(&text, no_break)
            .into_owned();
        bytes = latin1_bytes(&text);
    }
    if encoding.starts_with("sloppy") && bytes.iter().any(|b| matches!(b, 0x1A | b'?')) {
        // The bytes of U+FFFD in UTF-8.
        text = patterns
            .lossy_utf8
            .replace_all(&text, "\u{ef}\u{bf}\u{bd}")
            .into_owned();
        bytes = latin1_bytes(&text);
    }
    bytes
}

/// Decodes UTF-8, CESU-8 (surrogate pairs encoded one by one) and Java's two-byte NUL.
fn decode_utf8(mut bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let is_special = |pair: &[u8]| matches!(pair, [0xC0, _] | [0xED, 0xA0..=0xBF]);
    while let Some(at) = bytes.windows(2).position(is_special) {
        out.push_str(std::str::from_utf8(&bytes[..at]).ok()?);
        bytes = match &bytes[at..] {
            [0xC0, 0x80, rest @ ..] => {
                out.push('\0');
                rest
            }
            // The reference takes a final line feed for the missing byte.
            [0xC0, b'\n'] => {
                out.push('\0');
                &[]
            }
            &[
                0xED,
                a @ 0xA0..=0xAF,
                b @ 0x80..=0xBF,
                0xED,
                c @ 0xB0..=0xBF,
                d @ 0x80..=0xBF,
                ..,
            ] => {
                let bits = |byte: u8, mask: u8, shift: u32| u32::from(byte & mask) << shift;
                let code =
                    bits(a, 0xF, 16) + bits(b, 0x3F, 10) + bits(c, 0xF, 6) + bits(d, 0x3F, 0);
                out.push(char::from_u32(0x10000 + code)?);
                &bytes[at + 6..]
            }
            _ => return None,
        };
    }
    out.push_str(std::str::from_utf8(bytes).ok()?);
    Some(out)
}

/// Repairs the damaged stretches of a text that is otherwise fine.
fn decode_inconsistent_utf8(text: &str) -> String {
    let repair = |found: &Captures| {
        let part = &found[0];
        // A match of the whole text was tried before; trying again would not end.
        if part.len() < text.len() && is_bad(part) {
            fix_encoding(part.to_owned())
        } else {
            part.to_owned()
        }
    };
    match patterns().utf8_detector.try_replacen(text, 0, repair) {
        Ok(fixed) => fixed.into_owned(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(text: &str) -> String {
        fix_encoding(text.to_owned())
    }

    #[test]
    fn utf8_read_as_another_encoding_is_read_again() {
        assert_eq!(fix("sÃ³"), "só");
        assert_eq!(fix("вЂ“ tip"), "– tip");
        assert_eq!(fix("×‘×”×•×“×¢×”"), "בהודעה");
    }

    #[test]
    fn spaces_that_were_no_break_spaces_count_as_such() {
        assert_eq!(fix("voilÃ le travail"), "voilà le travail");
        assert_eq!(
            fix("com especial atenÃ§Ã£o Ã s crianÃ§as"),
            "com especial atenção às crianças"
        );
    }

    #[test]
    fn lost_bytes_become_replacement_characters() {
        assert_eq!(
            fix("â€œlossy decodingâ€\u{fffd}"),
            "“lossy decoding\u{fffd}"
        );
    }

    #[test]
    fn surrogate_pairs_in_utf8_are_joined_and_lone_ones_refused() {
        assert_eq!(
            decode_utf8(b"a\xED\xA0\xBD\xED\xB8\x80\xC0\x80").as_deref(),
            Some("a😀\0")
        );
        assert_eq!(decode_utf8(b"\xED\xA0\xBDx"), None);
        assert_eq!(decode_utf8(b"\xED\x95\x9C").as_deref(), Some("한"));
        assert_eq!(decode_utf8(b"\xC0"), None);
    }

    #[test]
    fn unusual_but_sound_text_stays() {
        for text in [
            "AHÅ™, the new sofa from IKEA",
            "a radius of 10 Å—",
            "(-1/2)! = √π",
            "!YO SÉ¡",
        ] {
            assert_eq!(fix(text), text);
        }
    }
}
