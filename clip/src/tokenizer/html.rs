//! HTML character references, as Python's `html.unescape` reads them.
//!
//! That is the HTML5 standard's rule for text: names may lack their semicolon where the standard
//! says so (`&amp` but not `&hearts`), the longest known name wins (`&notit;` → `¬it;`), and
//! numbers that HTML 4 pages used for Windows-1252 characters become those characters. The table of
//! names is Python's `html.entities.html5`, which is the standard's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Longest name that is looked up, in characters without `&` and `;`.
const LONGEST_NAME: usize = 32;

/// What the numbers 0x80..=0x9F mean: the characters of Windows-1252, as browsers take them.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// Name with its semicolon, if it has one (`"amp"` and `"amp;"` are two entries) → text.
pub(super) fn entities() -> &'static HashMap<&'static str, String> {
    static TABLE: OnceLock<HashMap<&'static str, String>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines = include_str!("../../assets/tokenizer/html5_entities.tsv").lines();
        lines
            .filter_map(|line| line.split_once('\t'))
            .map(|(k, v)| (k, code_points(v)))
            .collect()
    })
}

/// Text of hexadecimal code points separated by spaces.
pub(super) fn code_points(hex: &str) -> String {
    hex.split(' ')
        .filter_map(|h| u32::from_str_radix(h, 16).ok())
        .filter_map(char::from_u32)
        .collect()
}

/// Replaces every character reference, once: `&amp;lt;` becomes `&lt;`.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        let body = &rest[start + 1..];
        let consumed = match body.strip_prefix('#') {
            Some(number) => numeric(number, &mut out).map(|n| n + 1),
            None => named(body, &mut out),
        };
        let consumed = consumed.unwrap_or_else(|| {
            out.push('&');
            0
        });
        rest = &body[consumed..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Reads the part of a numeric reference after `#`; returns how many bytes it took.
fn numeric(text: &str, out: &mut String) -> Option<usize> {
    let (radix, prefix) = if text.starts_with(['x', 'X']) {
        (16, 1)
    } else {
        (10, 0)
    };
    let length = text[prefix..]
        .bytes()
        .take_while(|&b| (b as char).is_digit(radix))
        .count();
    if length == 0 {
        return None;
    }
    let end = prefix + length;
    let number = text[prefix..end]
        .bytes()
        .filter_map(|b| (b as char).to_digit(radix))
        .fold(0u32, |n, digit| {
            n.saturating_mul(radix).saturating_add(digit)
        });
    match number {
        0 => out.push(char::REPLACEMENT_CHARACTER),
        0x80..=0x9F => out.push(WINDOWS_1252[number as usize - 0x80]),
        _ => match char::from_u32(number) {
            None => out.push(char::REPLACEMENT_CHARACTER),
            Some(c) if is_dropped(c) => {}
            Some(c) => out.push(c),
        },
    }
    Some(end + usize::from(text[end..].starts_with(';')))
}

/// Control characters and noncharacters: the standard's parse errors, which Python deletes.
fn is_dropped(c: char) -> bool {
    matches!(c, '\u{1}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{fdd0}'..='\u{fdef}')
        || c as u32 & 0xFFFE == 0xFFFE
}

/// Reads a name; returns how many bytes it took. Nothing is written if no prefix of it is known.
fn named(text: &str, out: &mut String) -> Option<usize> {
    let mut end = text.len();
    for (count, (at, c)) in text.char_indices().enumerate() {
        if c == ';' && count > 0 {
            end = at + 1;
            break;
        }
        if count == LONGEST_NAME || matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';')
        {
            end = at;
            break;
        }
    }
    // All names are ASCII of two letters and more, so a cut inside a character is no candidate.
    (2..=end)
        .rev()
        .filter(|&n| text.is_char_boundary(n))
        .find_map(|n| {
            out.push_str(entities().get(&text[..n])?);
            Some(n)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_without_semicolon_follow_the_standard() {
        assert_eq!(
            unescape("a &amp b &lt;i&gt; &notit; &hearts &hearts;"),
            "a & b <i> ¬it; &hearts ♥"
        );
        assert_eq!(
            unescape("fish&chips & salt; R&D; &"),
            "fish&chips & salt; R&D; &"
        );
    }

    #[test]
    fn numbers_mean_windows_1252_and_bad_ones_are_replaced_or_dropped() {
        assert_eq!(unescape("&#233;&#xE9 &#X1F600;"), "éé 😀");
        assert_eq!(
            unescape("&#150;&#x80;&#0;&#xD800;&#99999999999999;"),
            "–€\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(unescape("a&#1;b&#xFFFE;c&#;&#x;"), "abc&#;&#x;");
    }

    #[test]
    fn one_pass_takes_one_layer() {
        assert_eq!(unescape("&amp;lt;"), "&lt;");
    }

    #[test]
    fn table_has_every_html5_name() {
        assert_eq!(entities().len(), 2231);
        assert_eq!(entities()["NotEqualTilde;"], "\u{2242}\u{338}");
    }
}
