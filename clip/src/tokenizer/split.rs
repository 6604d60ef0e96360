//! Cuts a cleaned text into the pieces that byte-pair encoding works on.
//!
//! A piece is a special token, an English contraction (`'s`, `'re`, ...), a run of letters, one
//! digit, or a run of anything else that is no white space; the first of these that fits, from left
//! to right, ignoring case.

use std::sync::OnceLock;

use fancy_regex::Regex;

/// Spelling of the token that opens every text.
pub const START_OF_TEXT: &str = "<start_of_text>";
/// Spelling of the token that closes every text.
pub const END_OF_TEXT: &str = "<end_of_text>";

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// Calls `piece` with every piece until it answers `false`.
///
/// With `specials`, the spellings of the special tokens are pieces of their own.
pub(super) fn split<'a>(text: &'a str, specials: bool, piece: impl FnMut(&'a str) -> bool) {
    if text.is_ascii() {
        split_ascii(text, specials, piece)
    } else {
        split_any(text, specials, piece)
    }
}

/// Any text, by the regular expression of the reference.
fn split_any<'a>(text: &'a str, specials: bool, mut piece: impl FnMut(&'a str) -> bool) {
    static REGEXES: OnceLock<[Regex; 2]> = OnceLock::new();
    let [plain, with_specials] = REGEXES.get_or_init(|| {
        // U+0345, a mark whose upper case is a letter, is in no class of the reference's case-blind
        // expression.
        let classes = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+";
        let specials = format!("(?i:{START_OF_TEXT}|{END_OF_TEXT})|{classes}");
        [classes, &specials].map(|pattern| Regex::new(pattern).expect("a valid expression"))
    });
    let regex = if specials { with_specials } else { plain };
    for found in regex.find_iter(text).map_while(Result::ok) {
        if !piece(found.as_str()) {
            return;
        }
    }
}

/// The same for ASCII, without the machinery.
fn split_ascii<'a>(text: &'a str, specials: bool, mut piece: impl FnMut(&'a str) -> bool) {
    let mut rest = text;
    loop {
        rest = &rest[run(rest, is_space)..];
        let Some(first) = rest.bytes().next() else {
            return;
        };
        let others = || run(rest, |b| !b.is_ascii_alphanumeric() && !is_space(b));
        let length = match first {
            b'a'..=b'z' | b'A'..=b'Z' => run(rest, |b| b.is_ascii_alphabetic()),
            b'0'..=b'9' => 1,
            b'\'' => start(rest, &CONTRACTIONS).unwrap_or_else(others),
            b'<' if specials => start(rest, &[START_OF_TEXT, END_OF_TEXT]).unwrap_or_else(others),
            _ => others(),
        };
        let (head, tail) = rest.split_at(length);
        if !piece(head) {
            return;
        }
        rest = tail;
    }
}

/// Length of the first of `tokens` that the text starts with, ignoring case.
fn start(text: &str, tokens: &[&str]) -> Option<usize> {
    let lengths = tokens.iter().filter(|token| {
        text.get(..token.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(token))
    });
    lengths.map(|token| token.len()).next()
}

/// Number of bytes at the start of a text for which `belongs` holds.
fn run(text: &str, belongs: impl Fn(u8) -> bool) -> usize {
    let end = text.bytes().position(|b| !belongs(b));
    end.unwrap_or(text.len())
}

/// White space of ASCII, which includes the vertical tab.
fn is_space(b: u8) -> bool {
    matches!(b, b'\t'..=b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(text: &str, specials: bool) -> Vec<&str> {
        let mut out = Vec::new();
        split(text, specials, |piece| {
            out.push(piece);
            true
        });
        out
    }

    #[test]
    fn letters_digits_and_the_rest_part_ways() {
        assert_eq!(
            pieces("it's 3.14%--ok", true),
            ["it", "'s", "3", ".", "1", "4", "%--", "ok"]
        );
        assert_eq!(pieces("!'s 'D 'x", true), ["!'", "s", "'D", "'", "x"]);
        assert_eq!(
            pieces("naïve 北京🙂 e\u{301}", true),
            ["naïve", "北京", "🙂", "e", "\u{301}"]
        );
    }

    #[test]
    fn special_tokens_are_one_piece_only_on_request() {
        assert_eq!(pieces("a<end_of_text>b", true), ["a", "<end_of_text>", "b"]);
        assert_eq!(pieces("<End_Of_Text>", true), ["<End_Of_Text>"]);
        assert_eq!(
            pieces("<end_of_text>", false),
            ["<", "end", "_", "of", "_", "text", ">"]
        );
        assert_eq!(pieces("!<end_of_text>", true)[..2], ["!<", "end"]);
    }

    #[test]
    fn splitting_stops_when_told() {
        let mut seen = 0;
        split("a b c d", true, |_| {
            seen += 1;
            seen < 2
        });
        assert_eq!(seen, 2);
    }

    proptest! {
        #[test]
        fn ascii_splitter_equals_the_regular_expression(
            text in "([ -~\t\n\r\u{b}\u{c}]|'s|'LL|<start_of_text>|<End_of_text>|<end){0,20}",
            specials: bool,
        ) {
            let mut expected = Vec::new();
            split_any(&text, specials, |piece| { expected.push(piece); true });
            prop_assert_eq!(pieces(&text, specials), expected);
        }
    }
}
