//! Sentences as lists of words.

/// Marks that stand alone in a sentence and are dropped.
const MARKS: &[char] = &[
    '.', ',', ';', ':', '!', '?', '"', '(', ')', '[', ']', '{', '}', '`', '“', '”', '‘', '…', '–',
    '—',
];

/// Ends of words that are words of their own.
const CLITICS: [&str; 7] = ["n't", "'s", "'re", "'ve", "'ll", "'d", "'m"];

/// The words of a sentence: lower case, without punctuation, and with `n't`, `'s` and the like split off.
///
/// It stands for the Penn Treebank tokenizer that the COCO evaluation starts in Java, and gives the same words for
/// captions of ordinary English. They differ where that one knows more: abbreviations keep no dot here (`a.m.` is
/// `a`, `m`), `cannot` and `gonna` stay whole, and fractions and dates fall apart. Numbers keep their dots and
/// commas, and words with hyphens stay whole in both. Compare scores only with those made from the same words.
pub fn words(sentence: &str) -> Vec<String> {
    let text = sentence.to_lowercase().replace('’', "'");
    let mut words = Vec::new();
    for piece in text.split_whitespace() {
        for word in pieces(piece) {
            let word = word.trim_matches(|c| c == '-' || c == '\'' && !CLITICS.contains(&word));
            let clitic = CLITICS.iter().find(|clitic| {
                let stem = word.strip_suffix(**clitic);
                stem.is_some_and(|stem| !stem.is_empty())
            });
            match clitic {
                Some(clitic) => {
                    words.push(word[..word.len() - clitic.len()].to_owned());
                    words.push((*clitic).to_owned());
                }
                None if word.is_empty() => {}
                None => words.push(word.to_owned()),
            }
        }
    }
    words
}

/// Splits at marks, but not at those between two digits: `1,000`, `3.5`, `10:30`.
fn pieces(text: &str) -> Vec<&str> {
    let letters: Vec<(usize, char)> = text.char_indices().collect();
    let digit = |place: Option<usize>| {
        let letter = place.and_then(|place| letters.get(place));
        letter.is_some_and(|(_, c)| c.is_ascii_digit())
    };
    let (mut pieces, mut start) = (Vec::new(), 0);
    for (place, &(at, letter)) in letters.iter().enumerate() {
        let inside = digit(place.checked_sub(1)) && digit(Some(place + 1));
        if MARKS.contains(&letter) && !(inside && ".,:".contains(letter)) {
            pieces.push(&text[start..at]);
            start = at + letter.len_utf8();
        }
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_treebank_for_ordinary_captions() {
        for (sentence, expected) in [
            ("A cat, sitting on a mat.", "a cat sitting on a mat"),
            (
                "Two men's T-shirts aren't RED!",
                "two men 's t-shirts are n't red",
            ),
            (
                "It’s 10:30 -- 1,000 \"people\" wait...",
                "it 's 10:30 1,000 people wait",
            ),
            (
                "the dogs' bowls (3.5 of them)",
                "the dogs bowls 3.5 of them",
            ),
            ("", ""),
            (" . ", ""),
            ("ein Café, naïve", "ein café naïve"),
        ] {
            assert_eq!(words(sentence).join(" "), expected, "{sentence}");
        }
    }
}
