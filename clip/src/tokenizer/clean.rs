//! What happens to a text before it is split into tokens: open_clip's `clean` argument, and what transformers does.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{ftfy, html};

/// Cleaning applied to every text. Those of open_clip first repair the text as Python's ftfy does, resolve HTML references
/// twice and strip; transformers does nothing of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Clean {
    /// Collapse white space, lower case. What CLIP was trained with.
    #[default]
    Lower,
    /// Collapse white space, keep the case.
    Whitespace,
    /// `_` becomes a space, ASCII punctuation goes, lower case, collapse white space. What SigLIP
    /// was trained with.
    Canonicalize,
    /// As [`Clean::Whitespace`], with `_` as a space.
    WhitespaceUnderscore,
    /// Lower case, and nothing else: what transformers does for SigLIP 2.
    HfLower,
    /// Lower case, ASCII punctuation goes, collapse white space: what transformers does for SigLIP.
    HfCanonicalize,
    /// The text as it is: what transformers does for CLIP, whose `tokenizer.json` holds the rest.
    None,
}

impl Clean {
    /// Cleans one text.
    pub fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::None => Cow::Borrowed(text),
            // Letter by letter, as the tokenizers crate does: a final sigma is like any other.
            Self::HfLower => text.chars().flat_map(char::to_lowercase).collect(),
            Self::HfCanonicalize => {
                collapse(without_punctuation(&to_lowercase(text.into())).into())
            }
            Self::Lower => to_lowercase(collapse(repair(text))),
            Self::Canonicalize => {
                let text = repair(text).replace('_', " ");
                collapse(to_lowercase(without_punctuation(&text).into()))
            }
            Self::WhitespaceUnderscore => collapse(repair(text).replace('_', " ").into()),
            Self::Whitespace => collapse(repair(text)),
        }
    }

    /// The name of this or, where open_clip has no such cleaning, of what comes nearest; `None` for its default.
    pub(crate) fn open_clip_name(self) -> Option<&'static str> {
        match self {
            Self::Lower | Self::HfLower => Some("lower"),
            Self::Canonicalize | Self::HfCanonicalize => Some("canonicalize"),
            Self::WhitespaceUnderscore => Some("whitespace_underscore"),
            Self::Whitespace | Self::None => None,
        }
    }
}

fn without_punctuation(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_punctuation()).collect()
}

/// ftfy and two rounds of HTML references, skipped for the texts that they cannot change.
fn repair(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| matches!(b, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0xc) && b != b'&';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let fixed = ftfy::fix_text(text);
    Cow::Owned(html::unescape(&html::unescape(&fixed)).into_owned())
}

fn to_lowercase(text: Cow<'_, str>) -> Cow<'_, str> {
    // The general mapping knows final sigma and characters that grow; ASCII needs neither.
    if !text.is_ascii() {
        return text.to_lowercase().into();
    }
    if !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return text;
    }
    let mut text = text.into_owned();
    text.make_ascii_lowercase();
    text.into()
}

/// White space runs become one space, none at the ends: Python's `" ".join(text.split())`.
fn collapse(text: Cow<'_, str>) -> Cow<'_, str> {
    if is_collapsed(text.as_bytes()) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_python_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out.into()
}

/// Whether a text is printable ASCII whose words stand one space apart, as most captions are.
fn is_collapsed(text: &[u8]) -> bool {
    let printable = text.iter().all(|b| matches!(b, b' '..=b'~'));
    let apart = text.windows(2).all(|pair| pair != b"  ");
    printable && apart && text.first() != Some(&b' ') && text.last() != Some(&b' ')
}

/// `str.isspace`: Unicode white space and the four ASCII information separators.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_repairs_resolves_collapses_and_lowers() {
        let clean = |text| Clean::Lower.apply(text).into_owned();
        assert_eq!(clean("  A\u{a0}PHOTO \t of\r\n a Cat "), "a photo of a cat");
        assert_eq!(clean("&amp;lt;b&gt; don’t cafÃ©"), "<b> don't café");
        assert_eq!(clean("ΟΔΥΣΣΕΥΣ İ"), "οδυσσευς i\u{307}");
        assert_eq!(clean(" \u{3000} "), "");
    }

    #[test]
    fn the_other_modes_keep_what_they_promise() {
        assert_eq!(Clean::Whitespace.apply(" A  b_C! "), "A b_C!");
        assert_eq!(Clean::WhitespaceUnderscore.apply("A__b_C!"), "A b C!");
        assert_eq!(
            Clean::Canonicalize.apply("A_b: it's (C)!  d-e"),
            "a b its c de"
        );
        assert_eq!(Clean::None.apply(" A  b"), " A  b");
        assert_eq!(Clean::HfLower.apply(" A&amp; b_C"), " a&amp; b_c");
        assert_eq!(
            Clean::HfCanonicalize.apply(" A_b: it's\t(C) &lt;"),
            "ab its c lt"
        );
    }

    #[test]
    fn modes_have_open_clips_names() {
        let parse = |name: &str| serde_json::from_str::<Clean>(&format!("{name:?}")).unwrap();
        assert_eq!(parse("lower"), Clean::Lower);
        assert_eq!(parse("whitespace_underscore"), Clean::WhitespaceUnderscore);
        assert!(serde_json::from_str::<Clean>("\"upper\"").is_err());
    }
}
