//! What is found beside an image on the web.

use serde::{Deserialize, Serialize};

use super::phrase;
use crate::scenes::{
    Scenes, Split,
    dice::Dice,
    scene::Scene,
    statement::{Keep, Statement},
    vocabulary::Speaker,
};

/// What a web caption is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebKind {
    /// This image.
    About,
    /// Another image.
    Wrong,
    /// Something for sale.
    Advert,
    /// Nothing: a file name.
    FileName,
}

/// A web caption and what it says.
pub(super) struct Found {
    pub text: String,
    pub content: Content,
}

/// What there is to rewrite.
pub(super) enum Content {
    Says { statement: Statement, wrong: bool },
    Advert(usize),
    FileName(String),
}

impl Found {
    pub fn kind(&self) -> WebKind {
        match self.content {
            Content::Says { wrong: false, .. } => WebKind::About,
            Content::Says { wrong: true, .. } => WebKind::Wrong,
            Content::Advert(_) => WebKind::Advert,
            Content::FileName(_) => WebKind::FileName,
        }
    }

    pub fn statement(&self) -> Option<&Statement> {
        match &self.content {
            Content::Says { statement, .. } => Some(statement),
            _ => None,
        }
    }
}

/// Adverts; `rewrite` has the other words for each.
pub(super) const ADVERTS: [&str; 5] = [
    "Buy 2 get 1 free - posters & prints online",
    "click to enlarge | free shipping worldwide",
    "royalty free stock image, hd download",
    "best price - order now, limited offer",
    "subscribe to our newsletter for more",
];

/// What alt texts put around the content.
const FRAMES: [[&str; 2]; 6] = [
    ["", ""],
    ["", ""],
    ["", " photo"],
    ["", " - stock image"],
    ["clipart ", ""],
    ["", " vector"],
];

/// The web caption of an image.
pub(super) fn find(
    world: &Scenes,
    scene: &Scene,
    split: Split,
    index: usize,
    dice: &mut Dice,
) -> Found {
    let config = world.config();
    let keep = Keep {
        object: 1.0 - config.drop_object,
        colour: 1.0 - config.drop_attribute / 2.0,
        attribute: 1.0 - config.drop_attribute,
        background: 1.0 - config.drop_attribute,
    };

    // One draw decides the kind, so that the rates are those of the settings exactly.
    let kind = dice.below(1 << 30) as f64 / f64::from(1 << 30);
    let advert = config.wrong_caption + config.advert;
    if kind < config.wrong_caption {
        let other = another(index, world.len(split), dice);
        let statement = Statement::part_of(&world.scene(split, other), keep, dice);
        Found {
            text: alt_text(&statement, dice),
            content: Content::Says {
                statement,
                wrong: true,
            },
        }
    } else if kind < advert {
        let which = dice.below(ADVERTS.len());
        Found {
            text: ADVERTS[which].into(),
            content: Content::Advert(which),
        }
    } else if kind < advert + config.file_name {
        let text = file_name(dice);
        Found {
            text: text.clone(),
            content: Content::FileName(text),
        }
    } else {
        let statement = Statement::part_of(scene, keep, dice);
        Found {
            text: alt_text(&statement, dice),
            content: Content::Says {
                statement,
                wrong: false,
            },
        }
    }
}

/// An image of the split other than this one.
fn another(index: usize, len: usize, dice: &mut Dice) -> usize {
    (index + 1 + dice.below(len.max(3) - 1)) % len.max(3)
}

fn file_name(dice: &mut Dice) -> String {
    let number = dice.below(10_000);
    match dice.below(4) {
        0 => format!("IMG_{number:04}.jpg"),
        1 => format!("DSC{number:05}.JPG"),
        2 => format!("untitled-{}.png", number % 100),
        _ => format!("{number:04}x{}.jpeg", dice.below(10_000)),
    }
}

fn alt_text(statement: &Statement, dice: &mut Dice) -> String {
    let mut objects = statement.objects.clone();
    dice.shuffle(&mut objects);
    let joint = *dice.pick(&[", ", " and ", " with ", " & "]);
    let frame = dice.pick(&FRAMES);
    let title = dice.chance(0.3);
    let comma = dice.chance(0.5);

    let mut speaker = Speaker {
        dice,
        synonyms: 0.0,
    };
    let mut named = Vec::new();
    for mention in &objects {
        let noun = phrase::noun(mention, &mut speaker);
        let place = mention
            .position
            .map(|p| format!(" {}", speaker.name(p)))
            .unwrap_or_default();
        named.push(noun + &place);
    }
    let objects = named.join(joint);
    let background = statement.background.map_or_else(String::new, |background| {
        let word = speaker.name(background);
        if comma {
            format!(", {word} background")
        } else {
            format!(" on {word} background")
        }
    });
    let text = format!("{}{objects}{background}{}", frame[0], frame[1]);
    if title {
        text.split(' ')
            .map(phrase::capital)
            .collect::<Vec<_>>()
            .join(" ")
    } else {
        text
    }
}
