//! The text that the model continues, and how its continuation is read.

use super::pool::{ARROW, Example};

/// First line of a prompt in the released code. The paper's figure shows another one.
pub const HEADER: &str = "write image captions differently,";

/// Layout of a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PromptForm {
    /// As the released code has it: every line but the first is indented by twelve spaces.
    #[default]
    Compat,
    /// Without indentation, as in the paper's figure.
    Clean,
}

impl PromptForm {
    fn indent(self) -> &'static str {
        match self {
            Self::Compat => "            ",
            Self::Clean => "",
        }
    }
}

impl std::str::FromStr for PromptForm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "compat" => Ok(Self::Compat),
            "clean" => Ok(Self::Clean),
            _ => Err(format!(
                "`{name}` is no prompt form; choose compat or clean"
            )),
        }
    }
}

impl std::fmt::Display for PromptForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Compat => "compat",
            Self::Clean => "clean",
        })
    }
}

/// The header, then the examples and the caption, an empty line before each. Ends in `=>`.
pub fn prompt(header: &str, examples: &[Example], caption: &str, form: PromptForm) -> String {
    let indent = form.indent();
    let mut text = header.to_string();
    for Example { source, target } in examples {
        text += &format!("\n\n{indent}{source} {ARROW} {target}");
    }
    text + &format!("\n\n{indent}{caption} {ARROW}")
}

/// What is to be tokenized instead of a prompt that is too long: its first tokens and the arrow anew. The end of
/// the caption is lost.
///
/// A prompt of up to `max_seq_len - 5` tokens is not too long; of a longer one `max_seq_len - 10` stay.
pub fn shorten(
    ids: &[u32],
    max_seq_len: usize,
    decode: impl FnOnce(&[u32]) -> String,
) -> Option<String> {
    if ids.len() <= max_seq_len.saturating_sub(5) {
        return None;
    }
    let kept = &ids[..ids.len().min(max_seq_len.saturating_sub(10))];
    Some(decode(kept) + " " + ARROW)
}

/// The rewrite in a continuation: up to the end of the line or the next arrow, without space around it, and with
/// spaces for whatever else might end a line.
pub fn answer(continuation: &str) -> String {
    let line = continuation.split('\n').next().unwrap_or_default();
    let rewrite = line.split(ARROW).next().unwrap_or_default();
    one_line(rewrite)
}

/// A text that is one line to every reader.
pub(crate) fn one_line(text: &str) -> String {
    let blank = |c| match c {
        '\r' | '\n' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        c => c,
    };
    text.chars()
        .map(blank)
        .collect::<String>()
        .trim()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [Example; 3] = [
        Example {
            source: "s1",
            target: "t1",
        },
        Example {
            source: "s2 ",
            target: "t2",
        },
        Example {
            source: "s3",
            target: "t3",
        },
    ];

    #[test]
    fn a_prompt_has_the_released_codes_bytes() {
        assert_eq!(HEADER.len(), 33);
        let compat = prompt(HEADER, &PAIRS, " a dog ", PromptForm::Compat);
        assert_eq!(
            compat,
            "write image captions differently,\n\n            s1 => t1\n\n            s2  => t2\n\n            \
             s3 => t3\n\n             a dog  =>"
        );
        let clean = prompt(HEADER, &PAIRS, "a dog", PromptForm::Clean);
        assert_eq!(
            clean,
            "write image captions differently,\n\ns1 => t1\n\ns2  => t2\n\ns3 => t3\n\na dog =>"
        );
        for text in [compat, clean] {
            assert_eq!(text.matches('\n').count(), 8);
            assert!(text.split('\n').nth(8).unwrap().ends_with("=>"));
            assert_eq!(text.matches("=>").count(), 4);
        }
    }

    /// The released code's reading of the whole text: line 8, then what is after its first arrow.
    fn released(prompt: &str, continuation: &str) -> String {
        let whole = format!("{prompt}{continuation}");
        let line = whole.split('\n').nth(8).unwrap().trim();
        line.split("=>").nth(1).unwrap().trim().to_string()
    }

    #[test]
    fn clean_answers_are_read_as_the_released_code_reads_them() {
        let text = prompt(HEADER, &PAIRS, "a dog", PromptForm::Compat);
        for (continuation, expected) in [
            (" A dog runs.\n\n            next => x", "A dog runs."),
            (" A dog runs.", "A dog runs."),
            (" A dog => a cat\n", "A dog"),
            ("\nA dog", ""),
            ("", ""),
            ("   ", ""),
        ] {
            assert_eq!(answer(continuation), expected);
            assert_eq!(released(&text, continuation), expected);
        }
        // A caption with an arrow of its own spoils the released reading, not ours.
        let text = prompt(HEADER, &PAIRS, "a => b", PromptForm::Compat);
        assert_eq!(released(&text, " A dog."), "b");
        assert_eq!(answer(" A dog."), "A dog.");
    }

    #[test]
    fn an_answer_is_one_line_to_every_reader() {
        assert_eq!(
            answer(" a\rb\u{2028}c\u{2029}d\u{85}e\tf\u{b}g \r"),
            "a b c d e\tf g"
        );
    }

    #[test]
    fn a_long_prompt_loses_the_end_of_its_caption() {
        let decode = |ids: &[u32]| format!("{} tokens", ids.len());
        let ids: Vec<u32> = (0..100).collect();
        assert_eq!(shorten(&ids, 105, decode), None);
        assert_eq!(shorten(&ids, 104, decode).unwrap(), "94 tokens =>");
        assert_eq!(shorten(&ids, 7, decode).unwrap(), "0 tokens =>");
    }
}
