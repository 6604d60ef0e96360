//! Web captions in other words: four styles, as a language model would write them that has never seen the image.

use serde::{Deserialize, Serialize};

use super::{
    phrase::{a, capital, colour_last, list, noun, place},
    web::{Content, Found},
};
use crate::scenes::{
    dice::Dice,
    statement::{Mention, Statement},
    vocabulary::Speaker,
};

/// A style of rewriting, named as LaCLIP names its four sets of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewriteStyle {
    /// Formal: one full sentence.
    Chatgpt,
    /// Chatty.
    Bard,
    /// Like COCO's annotators.
    Mscoco,
    /// Like a person in a hurry.
    Human,
}

impl RewriteStyle {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Chatgpt, Self::Bard, Self::Mscoco, Self::Human];

    /// Name as in LaCLIP's files, such as "mscoco".
    pub fn name(self) -> &'static str {
        ["chatgpt", "bard", "mscoco", "human"][self as usize]
    }

    /// Probability of a synonym instead of the web word. Never 0 or 1: the two must meet in some texts of an image.
    fn synonyms(self) -> f64 {
        [0.8, 0.7, 0.6, 0.5][self as usize]
    }
}

/// The web caption in each style. Nothing is added to what it says, be that true, wrong or nothing.
pub(super) fn all(found: &Found, dice: &mut Dice) -> [String; 4] {
    RewriteStyle::ALL.map(|style| match &found.content {
        Content::Says { statement, .. } => says(statement, style, dice),
        Content::Advert(which) => ADVERTS[*which][style as usize].into(),
        Content::FileName(name) => file_name(name, style),
    })
}

fn says(statement: &Statement, style: RewriteStyle, dice: &mut Dice) -> String {
    let variant = dice.below(2);
    let mut speaker = Speaker {
        dice,
        synonyms: style.synonyms(),
    };
    let speaker = &mut speaker;
    let named =
        |form: fn(&Mention, &mut Speaker) -> String, speaker: &mut Speaker| -> Vec<String> {
            let name = |m: &Mention| a(&form(m, speaker)) + &place(m.position, speaker);
            statement.objects.iter().map(name).collect()
        };
    match style {
        RewriteStyle::Chatgpt => {
            let objects = named(noun, speaker);
            let background = statement
                .background
                .map(|b| format!(", set against {} backdrop", a(speaker.name(b))));
            let background = background.unwrap_or_default();
            let verb = if objects.len() == 1 { "is" } else { "are" };
            match variant {
                0 => capital(&format!("{} {verb} depicted{background}.", list(&objects))),
                _ => format!("The image features {}{background}.", list(&objects)),
            }
        }
        RewriteStyle::Bard => {
            let objects = named(colour_last, speaker);
            let background = statement
                .background
                .map(|b| format!(" And the {} backdrop is lovely!", speaker.name(b)));
            let background = background.unwrap_or_default();
            let rest = match &objects[1..] {
                [] => String::new(),
                rest => format!(", together with {}", list(rest)),
            };
            match variant {
                0 => format!("Just look at this: {}{rest}!{background}", objects[0]),
                _ => format!(
                    "Here we can see {}{rest}, how nice!{background}",
                    objects[0]
                ),
            }
        }
        RewriteStyle::Mscoco => {
            let objects = named(noun, speaker);
            let background = statement
                .background
                .map(|b| format!(" on {} background", a(speaker.name(b))));
            let background = background.unwrap_or_default();
            let joint = [" next to ", " and "][variant];
            capital(&format!("{}{background}", objects.join(joint)))
        }
        RewriteStyle::Human => {
            // The background first, then the objects from the last to the first, without articles.
            let mut parts: Vec<String> = statement
                .background
                .map(|b| format!("{} scene", speaker.name(b)))
                .into_iter()
                .collect();
            for mention in statement.objects.iter().rev() {
                let noun = if variant == 0 {
                    noun(mention, speaker)
                } else {
                    colour_last(mention, speaker)
                };
                parts.push(
                    noun + &mention
                        .position
                        .map(|p| format!(", {}", speaker.name(p)))
                        .unwrap_or_default(),
                );
            }
            parts.join([" + ", "; "][variant])
        }
    }
}

/// Other words for each of the web's adverts.
const ADVERTS: [[&str; 4]; 5] = [
    [
        "Customers who purchase two posters or prints online receive a third at no cost.",
        "Wow, grab two posters online and a third one is on us!",
        "an offer for prints in an online shop",
        "free third poster when buying two",
    ],
    [
        "The picture may be enlarged by clicking; delivery is free of charge worldwide.",
        "Give it a click to see more, and we ship anywhere for free!",
        "a web page with free delivery",
        "click for full view, shipping free",
    ],
    [
        "A stock image in high definition is available for download without royalties.",
        "You can download this stock image for free, isn't that great!",
        "a stock image from a web page",
        "free hd stock download",
    ],
    [
        "The product is offered at the lowest price for a limited time.",
        "Hurry up and order now, this price will not last!",
        "a product with a price on it",
        "cheap, order soon",
    ],
    [
        "Readers may subscribe to the newsletter in order to receive further content.",
        "Want more of this? Sign up for our newsletter!",
        "a newsletter on a web page",
        "newsletter signup",
    ],
];

fn file_name(name: &str, style: RewriteStyle) -> String {
    let stem = name.split('.').next().unwrap_or(name);
    match style {
        RewriteStyle::Chatgpt => format!("An image file bearing the name {stem}."),
        RewriteStyle::Bard => format!("This picture is simply called {stem}, what could it be!"),
        RewriteStyle::Mscoco => format!("a photo with the name {stem}"),
        RewriteStyle::Human => format!("photo {stem}"),
    }
}
