//! The truth of an image: what is in it. Pixels and captions are made from this and nothing else.

use serde::{Deserialize, Serialize};

use super::{
    config::ScenesConfig,
    dice::Dice,
    vocabulary::{Background, Colour, Concept, Position, Shape, Size, Texture},
};

/// Thousandths of the image's side, so that the truth holds no rounded number.
pub type Permille = i32;

/// Half the width of an object of each size, in thousandths of the image's side.
const RADIUS: [Permille; 3] = [125, 170, 235];
/// Free space between an object and the border of the image.
const MARGIN: Permille = 20;
/// How far an object may lie from the middle of its grid cell, in either direction.
const JITTER: i32 = 18;

/// One object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// How big it is.
    pub size: Size,
    /// How it is filled.
    pub texture: Texture,
    /// The cell of the 3 x 3 grid that it is in.
    pub position: Position,
    /// Its exact centre, from the left and from the top.
    pub center: [Permille; 2],
    /// Its exact radius.
    pub radius: Permille,
    /// Which of the small tilts it has.
    pub tilt: usize,
}

/// Where one object is, seen from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
}

/// Everything in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scene {
    /// What lies behind.
    pub background: Background,
    /// One to four objects, no two alike in both shape and colour. The first is the main one: it is larger than any
    /// other, and the label is its shape and colour.
    pub objects: Vec<Object>,
    /// Faint lines across the background.
    pub lines: usize,
    /// Blurry blobs on the background.
    pub blobs: usize,
}

impl Scene {
    /// Draws a scene whose main object has the given shape and colour.
    pub(super) fn draw(config: &ScenesConfig, main: (Shape, Colour), dice: &mut Dice) -> Self {
        let background = *dice.pick(Background::ALL);
        let wanted = 1 + dice.below(config.max_objects);
        let main_size = match wanted {
            1 => *dice.pick(Size::ALL),
            _ => *dice.pick(&[Size::Medium, Size::Large, Size::Large]),
        };

        let mut cells = Position::ALL.to_vec();
        dice.shuffle(&mut cells);
        let mut objects = vec![place(main, main_size, cells[0], dice)];
        for &cell in &cells[1..] {
            if objects.len() == wanted {
                break;
            }
            let kind = loop {
                let kind = (
                    Shape::ALL[dice.below(config.shapes)],
                    Colour::ALL[dice.below(config.colours)],
                );
                if objects
                    .iter()
                    .all(|other| (other.shape, other.colour) != kind)
                {
                    break kind;
                }
            };
            let size = Size::ALL[dice.below(main_size as usize)];
            let object = place(kind, size, cell, dice);
            // A cell that is too near to what is there already is passed over.
            if objects.iter().all(|other| other.is_clear_of(&object)) {
                objects.push(object);
            }
        }
        let mut distractors = || dice.below(config.max_distractors + 1);
        Self {
            background,
            objects,
            lines: distractors(),
            blobs: distractors(),
        }
    }

    /// The main object: the largest.
    pub fn main(&self) -> &Object {
        &self.objects[0]
    }
}

fn place(
    (shape, colour): (Shape, Colour),
    size: Size,
    position: Position,
    dice: &mut Dice,
) -> Object {
    let radius = RADIUS[size as usize] + dice.between(-5, 5);
    let near = radius + MARGIN;
    let mut along = |cell: usize| {
        let middle = [near, 500, 1000 - near][cell];
        (middle + dice.between(-JITTER, JITTER)).clamp(near - MARGIN / 2, 1000 - near + MARGIN / 2)
    };
    let center = [along(position.column()), along(position.row())];
    let texture = *dice.pick(Texture::ALL);
    Object {
        shape,
        colour,
        size,
        texture,
        position,
        center,
        radius,
        tilt: dice.below(5),
    }
}

impl Object {
    fn is_clear_of(&self, other: &Self) -> bool {
        let [dx, dy] = [
            self.center[0] - other.center[0],
            self.center[1] - other.center[1],
        ];
        let reach = (self.radius + other.radius) * 106 / 100;
        dx * dx + dy * dy > reach * reach
    }

    /// Where this object is, seen from another; by the longer way, sideways if both are equally long.
    pub fn relation_to(&self, other: &Self) -> Relation {
        let [dx, dy] = [
            self.center[0] - other.center[0],
            self.center[1] - other.center[1],
        ];
        match (dx.abs() >= dy.abs(), dx > 0, dy > 0) {
            (true, false, _) => Relation::LeftOf,
            (true, true, _) => Relation::RightOf,
            (false, _, false) => Relation::Above,
            (false, _, true) => Relation::Below,
        }
    }
}

impl Relation {
    /// In words, to go between two objects.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::LeftOf => "to the left of",
            Self::RightOf => "to the right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Scenes, Split};
    use super::*;

    fn scenes() -> impl Iterator<Item = Scene> {
        let world = Scenes::new(ScenesConfig::default()).unwrap();
        (0..2000).map(move |i| world.scene(Split::Train, i))
    }

    #[test]
    fn the_main_object_is_larger_than_any_other() {
        for scene in scenes() {
            for other in &scene.objects[1..] {
                assert!(scene.main().size > other.size && scene.main().radius > other.radius + 20);
            }
        }
    }

    #[test]
    fn objects_are_inside_apart_and_different() {
        for scene in scenes() {
            for (i, object) in scene.objects.iter().enumerate() {
                for at in object.center {
                    assert!(
                        at >= object.radius && at <= 1000 - object.radius,
                        "{object:?}"
                    );
                }
                for other in &scene.objects[..i] {
                    assert!(object.is_clear_of(other) && object.position != other.position);
                    assert_ne!((object.shape, object.colour), (other.shape, other.colour));
                }
            }
        }
    }

    #[test]
    fn every_number_of_objects_is_about_equally_frequent() {
        let mut counts = [0; 5];
        scenes().for_each(|scene| counts[scene.objects.len()] += 1);
        assert!(
            counts[1..].iter().all(|n| (430..570).contains(n)),
            "{counts:?}"
        );
    }

    #[test]
    fn relations_look_from_the_second_object() {
        let scene = scenes().next().unwrap();
        let at = |x, y| Object {
            center: [x, y],
            ..*scene.main()
        };
        assert_eq!(at(200, 500).relation_to(&at(800, 600)), Relation::LeftOf);
        assert_eq!(at(800, 500).relation_to(&at(200, 600)), Relation::RightOf);
        assert_eq!(at(500, 200).relation_to(&at(600, 800)), Relation::Above);
        assert_eq!(at(500, 800).relation_to(&at(600, 200)), Relation::Below);
    }
}
