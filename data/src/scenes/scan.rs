//! Reads captions back: which concepts do the words of a text name?

use std::collections::HashMap;
use std::sync::LazyLock;

use super::vocabulary::{Background, Colour, Concept, Position, Shape, Size, Texture, Word};

/// A value of any concept, by name of its type and number.
pub type Fact = (&'static str, usize);

fn words_of<C: Concept>(kind: &'static str) -> Vec<(&'static Word, Fact)> {
    C::ALL
        .iter()
        .enumerate()
        .map(|(i, c)| (c.word(), (kind, i)))
        .collect()
}

pub fn all_words() -> Vec<(&'static Word, Fact)> {
    let mut all = words_of::<Shape>("shape");
    all.extend(words_of::<Colour>("colour"));
    all.extend(words_of::<Size>("size"));
    all.extend(words_of::<Texture>("texture"));
    all.extend(words_of::<Position>("position"));
    all.extend(words_of::<Background>("background"));
    all
}

static PHRASES: LazyLock<HashMap<Vec<String>, Fact>> = LazyLock::new(|| {
    let mut phrases = HashMap::new();
    for (word, fact) in all_words() {
        for phrase in [word.web, word.synonyms[0], word.synonyms[1], word.unseen] {
            let old = phrases.insert(tokens(phrase), fact);
            assert!(old.is_none(), "{phrase} is named twice");
        }
    }
    phrases
});

pub fn tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '-')
        .filter(|token| !token.is_empty())
        .map(String::from)
        .collect()
}

/// The concepts named in a text, in order, longest phrase first; plurals are understood.
pub fn facts(text: &str) -> Vec<Fact> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let hit = (1..=4.min(tokens.len() - at))
            .rev()
            .find_map(|n| PHRASES.get(&tokens[at..at + n]).map(|fact| (n, *fact)));
        at += hit.map_or(1, |(n, _)| n);
        found.extend(hit.map(|(_, fact)| fact));
    }
    found
}

/// As [`facts`], without order.
pub fn sorted_facts(text: &str) -> Vec<Fact> {
    let mut facts = facts(text);
    facts.sort_unstable();
    facts
}
