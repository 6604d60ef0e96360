//! A line of a shell as words.

/// What stands for the first variable of a word.
pub const VARIABLE: &str = "0";

/// The simple commands of a line as their words, without redirections and comments. Of variables and substitutions the
/// first of a word is [`VARIABLE`] and the others are 4, so that `$i/$n` is a share.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words) = (vec![Vec::new()], Words::default());
    let mut chars = line.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some('\''), c) => words.push(c),
            (_, '$') => {
                let mut depth = 0;
                let mut name = 0;
                while let Some(&next) = chars.peek() {
                    match next {
                        '{' | '(' => depth += 1,
                        '}' | ')' if depth > 0 => depth -= 1,
                        _ if depth > 0 || next.is_alphanumeric() || next == '_' => name += 1,
                        _ => break,
                    }
                    chars.next();
                    if depth == 0 && matches!(next, '}' | ')') {
                        break;
                    }
                }
                if name > 0 {
                    words.variable();
                } else {
                    words.push('$');
                }
            }
            (Some(_), c) => words.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                words.word.get_or_insert_default();
            }
            (None, '\\') => words.word.get_or_insert_default().extend(chars.next()),
            (None, '#') if words.word.is_none() => break,
            (None, ';' | '|' | '&' | '<' | '>') => {
                words.end();
                commands.last_mut().unwrap().append(&mut words.done);
                commands.push(Vec::new());
            }
            (None, c) if c.is_whitespace() => words.end(),
            (None, c) => words.push(c),
        }
    }
    words.end();
    commands.last_mut().unwrap().append(&mut words.done);
    commands.retain(|words| !words.is_empty());
    commands
}

#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: Option<String>,
    variables: usize,
}

impl Words {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn variable(&mut self) {
        let value = if self.variables == 0 { VARIABLE } else { "4" };
        self.word.get_or_insert_default().push_str(value);
        self.variables += 1;
    }

    fn end(&mut self) {
        self.done.extend(self.word.take());
        self.variables = 0;
    }
}

#[test]
fn words_are_those_of_a_shell() {
    let line = r#"A=1 run 'a b'/{0..3} "c $d/${e}" f\ g $i/4 '' > out; next | last # no"#;
    let expected = [
        vec!["A=1", "run", "a b/{0..3}", "c 0/4", "f g", "0/4", ""],
        vec!["out"],
        vec!["next"],
        vec!["last"],
    ];
    assert_eq!(commands(line), expected);
}
