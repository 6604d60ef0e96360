//! Repairs text that was mangled on its way: the default behaviour of Python's ftfy 6.3.1 (Robyn
//! Speer, Apache-2.0).
//!
//! CLIP's training captions went through `ftfy.fix_text`, so the same must happen to every caption
//! that the model sees later. The heuristics (which character sequences betray a wrong decoding)
//! are ftfy's own, extracted by `tests/reference/tokenizer_tables.py` into
//! `clip/assets/tokenizer/`; the program around them is written anew.
//!
//! The crate `plsfix` ports an older ftfy and differs from 6.3.1 in the order of encodings,
//! terminal escapes, lost bytes and HTML inside markup, which is why it is not used here.

mod codepage;
mod mojibake;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::html;

/// Every round either shortens the text or undoes one layer of damage; the bound only guards
/// against a cycle.
const MAX_ROUNDS: usize = 1000;

/// Longest name of an HTML entity that is looked for.
const LONGEST_ENTITY: usize = 24;

/// Repairs each line of a text on its own; the line ends stay in place.
pub(super) fn fix_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // A `<` tells that this is markup, in which references are intended; it counts from its line
    // on.
    let mut markup = false;
    for line in text.split_inclusive('\n') {
        markup |= line.contains('<');
        out.push_str(&fix_line(line, markup));
    }
    out
}

fn fix_line(line: &str, markup: bool) -> String {
    let mut text = line.to_owned();
    for _ in 0..MAX_ROUNDS {
        let fixed = fix_once(&text, markup);
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

fn fix_once(text: &str, markup: bool) -> String {
    let text = if markup {
        Cow::Borrowed(text)
    } else {
        unescape_entities(text)
    };
    let text = mojibake::fix_encoding(text.into_owned());
    let text = replace_characters(&text);
    let text = fix_line_breaks(text);
    let text = remove_terminal_escapes(text);
    let text = remove_controls(text);
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text,
        _ => text.nfc().collect(),
    }
}

/// Resolves references that end in a semicolon, and those whose name was turned to upper case
/// (`&EACUTE;`).
fn unescape_entities(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let hash = usize::from(rest[1..].starts_with('#'));
        let name = rest[1 + hash..]
            .bytes()
            .take_while(u8::is_ascii_alphanumeric)
            .count();
        let end = 1 + hash + name + 1;
        let is_entity = (1..=LONGEST_ENTITY).contains(&name) && rest[end - 1..].starts_with(';');
        match is_entity.then(|| entity(&rest[..end])).flatten() {
            Some(replacement) => {
                out.push_str(&replacement);
                rest = &rest[end..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Text of one `&...;`, if it is known.
fn entity(reference: &str) -> Option<Cow<'_, str>> {
    if reference.starts_with("&#") {
        let text = html::unescape(reference);
        return (!text.contains(';')).then_some(text);
    }
    let name = &reference[1..];
    if let Some(text) = html::entities().get(name) {
        return Some(Cow::Borrowed(text));
    }
    // An upper-case name counts only where HTML itself would read nothing into it.
    if name.bytes().any(|b| b.is_ascii_lowercase()) || html::unescape(reference) != reference {
        return None;
    }
    let text = html::entities().get(name.to_ascii_lowercase().as_str())?;
    Some(Cow::Owned(text.to_uppercase()))
}

/// C1 controls, Latin ligatures, full- and half-width forms and curly quotes, in one step.
fn replace_characters(text: &str) -> String {
    static TABLE: OnceLock<HashMap<char, String>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let lines = include_str!("../../../assets/tokenizer/characters.tsv").lines();
        let rows = lines.filter_map(|line| line.split_once('\t'));
        rows.filter_map(|(from, to)| {
            Some((
                html::code_points(from).chars().next()?,
                html::code_points(to),
            ))
        })
        .collect()
    });
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match (!c.is_ascii()).then(|| table.get(&c)).flatten() {
            Some(replacement) => out.push_str(replacement),
            None => out.push(c),
        }
    }
    out
}

fn fix_line_breaks(text: String) -> String {
    const BREAKS: [char; 4] = ['\r', '\u{2028}', '\u{2029}', '\u{85}'];
    if !text.contains(BREAKS) {
        return text;
    }
    text.replace("\r\n", "\n").replace(BREAKS, "\n")
}

/// Removes `ESC [ 1;31 m` and its kin.
fn remove_terminal_escapes(text: String) -> String {
    if !text.contains("\u{1b}[") {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find("\u{1b}[") {
        out.push_str(&rest[..start]);
        rest = &rest[start + 2..];
        // Python's \d takes every decimal digit of Unicode; here ASCII only.
        let letter = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        if letter.starts_with(|c: char| c.is_ascii_alphabetic()) {
            rest = &letter[1..];
        } else {
            out.push_str("\u{1b}[");
        }
    }
    out.push_str(rest);
    out
}

fn remove_controls(mut text: String) -> String {
    text.retain(|c| {
        !matches!(
            c,
            '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}'
                | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}'
        )
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_in_any_script_is_left_alone() {
        for text in [
            "a photo of a cat",
            "naïve café",
            "Привет, мир",
            "日本語のキャプション",
            "🙂🏳️‍🌈",
            "",
        ] {
            assert_eq!(fix_text(text), text);
        }
    }

    #[test]
    fn typography_becomes_plain() {
        assert_eq!(
            fix_text("“don’t” ﬁne ＡＢＣ　１２ ﾀﾞ"),
            "\"don't\" fine ABC 12 ダ"
        );
        assert_eq!(
            fix_text("e\u{301}tude\r\nx\u{2028}y\u{feff}\u{1b}[31mred\u{1b}[0m\u{7}"),
            "étude\nx\nyred"
        );
    }

    #[test]
    fn wrong_decodings_are_undone() {
        assert_eq!(
            fix_text("cafÃ© societyâ€™s voilÃ  le travail"),
            "café society's voilà le travail"
        );
        assert_eq!(fix_text("âœ” No problems"), "✔ No problems");
        assert_eq!(
            fix_text("Merci de t‚Äö√†√∂¬¨¬©l‚Äö√†√∂¬¨¬©charger"),
            "Merci de télécharger"
        );
    }

    #[test]
    fn entities_are_resolved_unless_the_text_is_markup() {
        assert_eq!(
            fix_text("P&EACUTE;REZ &amp; &nTILDE; &#x2026; a&b"),
            "PÉREZ & &nTILDE; … a&b"
        );
        assert_eq!(fix_text("&eacute;\n<b> &eacute;"), "é\n<b> &eacute;");
        assert_eq!(fix_text("&amp;amp;amp;"), "&");
    }
}
