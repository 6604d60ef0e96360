//! Pieces of English that every writer needs.

use crate::scenes::{
    statement::Mention,
    vocabulary::{Position, Speaker},
};

/// "big red striped circle": the object without its place.
pub(super) fn noun(mention: &Mention, speaker: &mut Speaker) -> String {
    let words = [
        mention.size.map(|size| speaker.name(size)),
        mention.colour.map(|colour| speaker.name(colour)),
        mention.texture.map(|texture| speaker.name(texture)),
        Some(speaker.name(mention.shape)),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// "striped circle in red": colour last.
pub(super) fn colour_last(mention: &Mention, speaker: &mut Speaker) -> String {
    let bare = noun(
        &Mention {
            colour: None,
            ..*mention
        },
        speaker,
    );
    match mention.colour {
        Some(colour) => format!("{bare} in {}", speaker.name(colour)),
        None => bare,
    }
}

/// " at the top", or nothing.
pub(super) fn place(position: Option<Position>, speaker: &mut Speaker) -> String {
    position.map_or_else(String::new, |position| {
        format!(" at the {}", speaker.name(position))
    })
}

/// With "a" or "an" before it.
pub(super) fn a(noun: &str) -> String {
    // "uniform" begins with a consonant when spoken.
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']) && !noun.starts_with("uni");
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

/// "a, b and c".
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// With a capital letter first.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_and_lists_are_english() {
        assert_eq!(a("emerald disc"), "an emerald disc");
        assert_eq!(a("uniform disc"), "a uniform disc");
        assert_eq!(a("unfilled disc"), "an unfilled disc");
        assert_eq!(list(&["x".into(), "y".into(), "z".into()]), "x, y and z");
        assert_eq!(capital("an azure fir"), "An azure fir");
    }
}
