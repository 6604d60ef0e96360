//! Quotes that are never closed: the CSV reader takes all that follows for one field, to the end of the file.

/// Of the last row of a table: how many further lines a quote swallowed that is not closed. `None` if
/// all quotes are closed.
pub fn swallowed(row: &[u8], separator: char) -> Option<usize> {
    let mut state = State::Start;
    // The line end of the row before may stand at the beginning.
    let begin = row.iter().position(|byte| !matches!(byte, b'\n' | b'\r'));
    let row = &row[begin.unwrap_or(row.len())..];
    for &byte in row {
        state = match (state, byte) {
            (State::Start, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::Closed,
            (State::Quoted, _) => State::Quoted,
            // A doubled quote is a quote of the text.
            (State::Closed, b'"') => State::Quoted,
            (_, byte) if byte == separator as u8 => State::Start,
            (_, _) => State::Plain,
        };
    }
    (state == State::Quoted).then(|| row.trim_ascii_end().split(|b| *b == b'\n').count() - 1)
}

/// Where in a field the reading stands.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// Behind a quote inside quotes.
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quote_that_begins_a_field_and_is_not_closed_swallows() {
        for (row, expected) in [
            ("0.jpg\ta \"cat", None),
            ("0.jpg\t\"a cat\"", None),
            ("0.jpg\t\"a \"\"cat\"\"\"", None),
            ("0.jpg\t\"a cat\nof two lines\"\tx\n", None),
            ("\n0.jpg\t\"a cat\n1.jpg\tx\n2.jpg\ty\n", Some(2)),
            ("0.jpg\t\"a \"\"cat\"\"\n1.jpg", Some(1)),
            ("\"0.jpg", Some(0)),
            (" \"0.jpg", None),
            ("\t\"a", Some(0)),
            ("\n", None),
        ] {
            assert_eq!(swallowed(row.as_bytes(), '\t'), expected, "{row}");
        }
    }
}
