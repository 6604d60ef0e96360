//! What people say who look at the image: most of what is there, each in an own way.

use super::phrase::{a, capital, colour_last, list, noun, place};
use crate::scenes::{
    dice::Dice,
    scene::Scene,
    statement::{Keep, Mention, Statement},
    vocabulary::Speaker,
};

/// How much people say.
const KEEP: Keep = Keep {
    object: 0.9,
    colour: 0.95,
    attribute: 0.55,
    background: 0.7,
};

/// Five statements and their captions.
pub(super) fn five(scene: &Scene, synonyms: f64, dice: &mut Dice) -> ([Statement; 5], [String; 5]) {
    let statements = std::array::from_fn(|_| Statement::part_of(scene, KEEP, dice));
    let captions = std::array::from_fn(|i| say(&statements[i], i, &mut Speaker { dice, synonyms }));
    (statements, captions)
}

/// Each person has a form of their own.
fn say(statement: &Statement, person: usize, speaker: &mut Speaker) -> String {
    let form: fn(&Mention, &mut Speaker) -> String = if person.is_multiple_of(2) {
        noun
    } else {
        colour_last
    };
    let objects: Vec<String> = statement
        .objects
        .iter()
        .map(|mention| a(&form(mention, speaker)) + &place(mention.position, speaker))
        .collect();
    let background = statement.background.map(|b| a(speaker.name(b)));
    let background = |before: &str, after: &str| {
        background
            .as_ref()
            .map_or_else(String::new, |b| format!("{before}{b}{after}"))
    };
    match person {
        0 => capital(&format!(
            "{}{}.",
            list(&objects),
            background(" on ", " background")
        )),
        1 => format!(
            "There is {}{}.",
            list(&objects),
            background(" in front of ", " background")
        ),
        2 => capital(&format!(
            "{}{}",
            objects.join(" next to "),
            background(", ", " backdrop")
        )),
        3 => format!(
            "A drawing of {}{}.",
            list(&objects),
            background(" with ", " background")
        ),
        _ => capital(&format!(
            "{}{}",
            background("", " background with "),
            objects.join(", ")
        )),
    }
}
