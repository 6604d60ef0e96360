//! Code in a Markdown text.

/// A line of a shell's code, or a stretch of code in a sentence.
#[derive(Debug, PartialEq)]
pub struct Code {
    /// Of the line where it begins, from 1.
    pub number: usize,
    /// Lines that end with a backslash are joined with the next.
    pub text: String,
    /// In a block of its own.
    pub fenced: bool,
}

/// All code of a text: lines of blocks that say `sh`, and what stands between backticks.
pub fn code(text: &str) -> Vec<Code> {
    let (mut found, mut block) = (Vec::new(), None::<bool>);
    let mut open: Option<Code> = None; // a line that goes on, or code in a sentence
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = match block {
                None => Some(language == "sh"),
                Some(_) => None,
            };
            open = None;
            continue;
        }
        match block {
            Some(true) => {
                let (part, goes_on) = match line.trim_end().strip_suffix('\\') {
                    Some(part) => (part, true),
                    None => (line, false),
                };
                let code = open.get_or_insert(Code {
                    number,
                    text: String::new(),
                    fenced: true,
                });
                code.text.push_str(part);
                if !goes_on {
                    found.extend(open.take());
                }
            }
            Some(false) => {}
            None if line.trim().is_empty() => open = None,
            None => in_sentence(number, line, &mut open, &mut found),
        }
    }
    found
}

/// Code between backticks may go over the end of a line.
fn in_sentence(number: usize, line: &str, open: &mut Option<Code>, found: &mut Vec<Code>) {
    for (i, part) in line.split('`').enumerate() {
        if i > 0 {
            match open.take() {
                Some(code) => found.push(code),
                None => {
                    *open = Some(Code {
                        number,
                        text: String::new(),
                        fenced: false,
                    })
                }
            }
        }
        if let Some(code) = open {
            code.text.push_str(part);
        }
    }
    if let Some(code) = open {
        code.text.push(' ');
    }
}

#[test]
fn code_is_found_in_blocks_and_sentences_with_its_line() {
    let text = "Say `a b` and `c\nd`.\n\n```sh\ne \\\n  f\ng\n```\n```rust\nh\n```\nAn odd ` here\n\nis no `i`.";
    let found = code(text);
    let found: Vec<_> = found
        .iter()
        .map(|code| (code.number, &*code.text, code.fenced))
        .collect();
    let expected = [
        (1, "a b", false),
        (1, "c d", false),
        (5, "e   f", true),
        (7, "g", true),
        (14, "i", false),
    ];
    assert_eq!(found, expected);
}
