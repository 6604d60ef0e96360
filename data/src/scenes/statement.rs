//! What a caption says, before it is put into words.

use super::{
    dice::Dice,
    scene::{Object, Scene},
    vocabulary::{Background, Colour, Position, Shape, Size, Texture},
};

/// What is said of one object. Its shape always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Mention {
    pub shape: Shape,
    pub colour: Option<Colour>,
    pub size: Option<Size>,
    pub texture: Option<Texture>,
    pub position: Option<Position>,
}

/// What is said of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The objects spoken of, at least one.
    pub objects: Vec<Mention>,
    /// The background, if it is spoken of.
    pub background: Option<Background>,
}

/// Probabilities with which parts of the truth are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    pub object: f64,
    pub colour: f64,
    pub attribute: f64,
    pub background: f64,
}

impl Statement {
    /// Some of the truth. Objects keep their order, the main one first if it is kept.
    pub(super) fn part_of(scene: &Scene, keep: Keep, dice: &mut Dice) -> Self {
        // One object is sure to stay, so that the caption is about something.
        let sure = dice.below(scene.objects.len());
        let objects = scene
            .objects
            .iter()
            .enumerate()
            .filter_map(|(i, object)| {
                let kept = dice.chance(keep.object) || i == sure;
                kept.then(|| Mention::part_of(object, keep, dice))
            })
            .collect();
        let background = dice.chance(keep.background).then_some(scene.background);
        Self {
            objects,
            background,
        }
    }

    /// Whether this is true of a scene: each mention fits an object of its own.
    pub fn holds(&self, scene: &Scene) -> bool {
        self.background
            .is_none_or(|background| background == scene.background)
            && fits(&self.objects, &scene.objects)
    }
}

/// Whether the mentions can be given to different objects; a search, since a mention without colour may fit several.
fn fits(mentions: &[Mention], objects: &[Object]) -> bool {
    let Some((first, rest)) = mentions.split_first() else {
        return true;
    };
    objects.iter().enumerate().any(|(i, object)| {
        first.holds(object) && fits(rest, &[&objects[..i], &objects[i + 1..]].concat())
    })
}

impl Mention {
    fn part_of(object: &Object, keep: Keep, dice: &mut Dice) -> Self {
        Self {
            shape: object.shape,
            colour: dice.chance(keep.colour).then_some(object.colour),
            size: dice.chance(keep.attribute).then_some(object.size),
            texture: dice.chance(keep.attribute).then_some(object.texture),
            position: dice.chance(keep.attribute).then_some(object.position),
        }
    }

    /// All there is to say of an object.
    pub fn all_of(object: &Object) -> Self {
        Self {
            shape: object.shape,
            colour: Some(object.colour),
            size: Some(object.size),
            texture: Some(object.texture),
            position: Some(object.position),
        }
    }

    /// Whether this is true of an object.
    pub fn holds(&self, object: &Object) -> bool {
        self.shape == object.shape
            && self.colour.is_none_or(|colour| colour == object.colour)
            && self.size.is_none_or(|size| size == object.size)
            && self.texture.is_none_or(|texture| texture == object.texture)
            && self
                .position
                .is_none_or(|position| position == object.position)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Scenes, ScenesConfig, Split};
    use super::*;

    #[test]
    fn two_mentions_need_two_objects() {
        let world = Scenes::new(ScenesConfig::default()).unwrap();
        let mut scene = world.scene(Split::Train, 0);
        scene.objects.truncate(1);
        let mention = Mention::all_of(scene.main());
        let once = Statement {
            objects: vec![mention],
            background: None,
        };
        let twice = Statement {
            objects: vec![mention; 2],
            background: None,
        };
        assert!(once.holds(&scene) && !twice.holds(&scene));
    }

    #[test]
    fn a_vague_mention_leaves_the_exact_object_to_the_other() {
        let world = Scenes::new(ScenesConfig::default()).unwrap();
        let mut scene = world.scene(Split::Train, 0);
        scene.objects.truncate(1);
        let red = Object {
            colour: Colour::Red,
            ..*scene.main()
        };
        let blue = Object {
            colour: Colour::Blue,
            ..red
        };
        scene.objects = vec![red, blue];
        // The mention without colour would fit the red object first.
        let vague = Mention {
            colour: None,
            ..Mention::all_of(&red)
        };
        let statement = Statement {
            objects: vec![vague, Mention::all_of(&red)],
            background: None,
        };
        assert!(statement.holds(&scene));
    }
}
