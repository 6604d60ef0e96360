//! Where a caption is cut into parts.

use serde::{Deserialize, Serialize};

/// How the ends of sentences are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Splitting {
    /// At every run of `.` and `!`, and at `|`, as the authors' code does it (OpenVision's `my_bert_tokenize`): "3.5" and
    /// "U.S." are cut, questions are not.
    #[default]
    Release,
    /// At runs of `.` and `!` that blanks or the end follow, but not behind an initial such as the one of "J. Doe" or
    /// "U.S. dollars".
    Repaired,
}

/// The parts of a caption that have visible text, without the characters that end them. Blanks in front of a part stay.
pub fn sentences(caption: &str, splitting: Splitting) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut rest = caption;
    let ends: &[char] = match splitting {
        Splitting::Release => &['.', '!', '|'],
        Splitting::Repaired => &['.', '!'],
    };
    while let Some(at) = rest.find(ends) {
        let end = caption.len() - rest.len() + at;
        rest = rest[at..].trim_start_matches(ends);
        let next = caption.len() - rest.len();
        if splitting == Splitting::Release || ends_a_sentence(&caption[start..end], &caption[end..])
        {
            parts.push(&caption[start..end]);
            start = next;
        }
    }
    parts.push(&caption[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Whether what stands at the beginning of `from` ends the sentence before it.
fn ends_a_sentence(sentence: &str, from: &str) -> bool {
    let after = from.trim_start_matches(['.', '!']);
    if after.is_empty() {
        return true;
    }
    let one_dot = from.len() - after.len() == 1 && from.starts_with('.');
    let word = sentence.split_whitespace().next_back().unwrap_or_default();
    let mut letters = word.split('.').map(|part| part.chars().count());
    let initial =
        one_dot && word.chars().any(char::is_uppercase) && letters.all(|count| count == 1);
    after.starts_with(char::is_whitespace) && !initial
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Section 13 of the specification that the release was read for.
    #[test]
    fn sentences_are_cut_as_the_release_does_it() {
        let cut = |caption| sentences(caption, Splitting::Release);
        assert_eq!(cut("A. B! C"), ["A", " B", " C"]);
        assert_eq!(cut("A?"), ["A?"]);
        assert_eq!(cut("3.5"), ["3", "5"]);
        assert_eq!(cut("U.S. dollars"), ["U", "S", " dollars"]);
        assert_eq!(cut("a red|blue kite..!"), ["a red", "blue kite"]);
        assert!(cut("").is_empty());
        assert!(cut(" ..! .").is_empty());
    }

    #[test]
    fn decimals_and_initials_stay_whole_where_the_rule_is_repaired() {
        let cut = |caption| sentences(caption, Splitting::Repaired);
        assert_eq!(
            cut("A tower. It is 3.5 m high!"),
            ["A tower", " It is 3.5 m high"]
        );
        assert_eq!(
            cut("5 U.S. dollars. J. Doe pays"),
            ["5 U.S. dollars", " J. Doe pays"]
        );
        assert_eq!(
            cut("a red|blue kite. see b.jpg"),
            ["a red|blue kite", " see b.jpg"]
        );
        assert_eq!(cut("It is a... yes! a cat"), ["It is a", " yes", " a cat"]);
    }

    proptest! {
        #[test]
        fn parts_are_in_order_and_lose_nothing_but_ends(caption in "[a-cA-C.!| é日]{0,40}") {
            for splitting in [Splitting::Release, Splitting::Repaired] {
                let parts = sentences(&caption, splitting);
                let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace() && !".!|".contains(*c)).collect::<String>();
                prop_assert_eq!(visible(&parts.concat()), visible(&caption));
                prop_assert!(parts.iter().all(|part| !part.trim().is_empty()));
            }
        }
    }
}
