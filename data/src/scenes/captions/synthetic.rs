//! The caption of a model that looks closely: everything, a sentence for each fact.
//!
//! No sentence has a full stop or an exclamation mark inside, so that each can be taken for itself.

use super::phrase::{a, capital, list, noun};
use crate::scenes::{
    dice::Dice,
    scene::{Object, Scene},
    statement::Mention,
    vocabulary::Speaker,
};

/// Describes the whole scene.
pub(super) fn describe(scene: &Scene, synonyms: f64, dice: &mut Dice) -> String {
    let variant = dice.below(2);
    let mut speaker = Speaker { dice, synonyms };
    let speaker = &mut speaker;

    let mut sentences = vec![opening(scene, variant, speaker)];
    for (i, object) in scene.objects.iter().enumerate() {
        let begin = match (i, scene.objects.len()) {
            (0, 1) => "It is",
            (0, _) => "The main object is",
            (1, _) => "There is also",
            (2, _) => "In addition there is",
            _ => "Finally there is",
        };
        let noun = a(&noun(
            &Mention {
                position: None,
                ..Mention::all_of(object)
            },
            speaker,
        ));
        sentences.push(format!(
            "{begin} {noun} at the {}",
            speaker.name(object.position)
        ));
        if i > 0 {
            sentences.push(relation(object, scene.main(), variant, speaker));
        }
    }
    sentences.extend(clutter(scene));
    sentences.join(". ") + "."
}

fn opening(scene: &Scene, variant: usize, speaker: &mut Speaker) -> String {
    let count = match scene.objects.len() {
        1 => "one object",
        2 => "two objects",
        3 => "three objects",
        _ => "four objects",
    };
    let background = a(speaker.name(scene.background));
    match variant {
        0 => format!("The image shows {count} on {background} background"),
        _ => format!("In this picture {count} can be seen against {background} background"),
    }
}

/// Where an object is, seen from the main one; only shape and colour are named again.
fn relation(object: &Object, main: &Object, variant: usize, speaker: &mut Speaker) -> String {
    let brief = |object: &Object| Mention {
        size: None,
        texture: None,
        position: None,
        ..Mention::all_of(object)
    };
    let [one, other] = [object, main].map(|o| noun(&brief(o), speaker));
    let verb = ["is", "lies"][variant];
    capital(&format!(
        "the {one} {verb} {} the {other}",
        object.relation_to(main).phrase()
    ))
}

fn clutter(scene: &Scene) -> Option<String> {
    let count = |n: usize, what: &str| match n {
        0 => None,
        1 => Some(format!("a {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let parts: Vec<String> = [
        count(scene.lines, "faint line"),
        count(scene.blobs, "blurry spot"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| format!("Behind there can be seen {}", list(&parts)))
}
