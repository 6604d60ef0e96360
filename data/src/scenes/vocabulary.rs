//! The words of the world: several for every concept, in three vocabularies that share no word.
//!
//! Web captions use one fixed word per concept. Rewrites and people also use synonyms. A last word per concept is never
//! used in any caption: only a text encoder that knows English beforehand can know what it means.

use serde::{Deserialize, Serialize};

use super::dice::Dice;

/// Which words name a concept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Words {
    /// The words of web captions.
    Web,
    /// Words that rewrites, synthetic and test captions use and web captions never do.
    #[default]
    Synonyms,
    /// Words that no caption uses.
    Unseen,
}

/// The words for one concept.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    /// What a web caption calls it.
    pub web: &'static str,
    /// What others call it too.
    pub synonyms: [&'static str; 2],
    /// What nobody here calls it.
    pub unseen: &'static str,
}

impl Word {
    const fn new(web: &'static str, synonyms: [&'static str; 2], unseen: &'static str) -> Self {
        Self {
            web,
            synonyms,
            unseen,
        }
    }

    /// The word of a vocabulary (the first one of [`Words::Synonyms`]).
    pub fn of(&self, words: Words) -> &'static str {
        match words {
            Words::Web => self.web,
            Words::Synonyms => self.synonyms[0],
            Words::Unseen => self.unseen,
        }
    }
}

/// Something that words can name.
pub trait Concept: Copy + Eq + 'static {
    /// All values, in the order of their numbers.
    const ALL: &'static [Self];

    /// The words for this value.
    fn word(self) -> &'static Word;
}

/// Declares an enum whose values each have a [`Word`].
macro_rules! concept {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident: $web:literal, [$a:literal, $b:literal], $unseen:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$value_doc])* $value,)* }

        impl Concept for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)*];

            fn word(self) -> &'static Word {
                const WORDS: &[Word] = &[$(Word::new($web, [$a, $b], $unseen),)*];
                &WORDS[self as usize]
            }
        }
    };
}

concept! {
    /// What an object is.
    #[allow(missing_docs)] // The names say it.
    Shape {
        Circle: "circle", ["disc", "ball"], "roundel";
        Square: "square", ["box", "tile"], "quadrangle";
        Triangle: "triangle", ["pyramid", "wedge"], "trigon";
        Star: "star", ["pentagram", "starburst"], "asterisk";
        Heart: "heart", ["valentine", "love symbol"], "cardioid";
        Cross: "cross", ["plus sign", "plus mark"], "swiss emblem";
        Moon: "moon", ["crescent", "sickle"], "lune";
        Arrow: "arrow", ["pointer", "dart"], "cursor";
        Diamond: "diamond", ["rhombus", "lozenge"], "kite";
        Tree: "tree", ["fir", "pine"], "conifer";
    }
}

concept! {
    /// The colour of an object.
    #[allow(missing_docs)]
    Colour {
        Red: "red", ["crimson", "scarlet"], "vermilion";
        Green: "green", ["emerald", "jade"], "viridian";
        Blue: "blue", ["azure", "cobalt"], "sapphire";
        Yellow: "yellow", ["golden", "lemon"], "saffron";
        Purple: "purple", ["violet", "plum"], "amethyst";
        Orange: "orange", ["tangerine", "apricot"], "pumpkin";
        Pink: "pink", ["rose", "fuchsia"], "magenta";
        Brown: "brown", ["chestnut", "chocolate"], "mahogany";
    }
}

concept! {
    /// The size of an object, against the side of the image.
    #[allow(missing_docs)]
    Size {
        Small: "small", ["tiny", "little"], "miniature";
        Medium: "medium", ["mid-sized", "average-sized"], "moderate";
        Large: "big", ["large", "huge"], "enormous";
    }
}

concept! {
    /// How an object is filled.
    #[allow(missing_docs)]
    Texture {
        Plain: "solid", ["filled", "uniform"], "monochrome";
        Striped: "striped", ["banded", "pinstriped"], "streaked";
        Dotted: "dotted", ["spotted", "polka-dot"], "speckled";
        Checkered: "checkered", ["chessboard", "chequered"], "gridded";
        Outlined: "outline", ["hollow", "unfilled"], "wireframe";
    }
}

concept! {
    /// Where an object is: a cell of a 3 x 3 grid, row by row.
    #[allow(missing_docs)]
    Position {
        TopLeft: "top left corner", ["upper left", "upper left area"], "northwest";
        Top: "top", ["upper edge", "upper side"], "north";
        TopRight: "top right corner", ["upper right", "upper right area"], "northeast";
        Left: "left side", ["left edge", "left margin"], "west";
        Center: "center", ["middle", "central part"], "midpoint";
        Right: "right side", ["right edge", "right margin"], "east";
        BottomLeft: "bottom left corner", ["lower left", "lower left area"], "southwest";
        Bottom: "bottom", ["lower edge", "lower side"], "south";
        BottomRight: "bottom right corner", ["lower right", "lower right area"], "southeast";
    }
}

concept! {
    /// What lies behind the objects. Every word goes before "background" or "backdrop".
    #[allow(missing_docs)]
    Background {
        Snow: "snow", ["wintry", "icy"], "frozen";
        Sand: "sand", ["desert", "beach"], "dune";
        Grass: "grass", ["meadow", "lawn"], "pasture";
        Sky: "sky", ["cloudy", "heavenly"], "aerial";
        Night: "night", ["midnight", "nocturnal"], "dusky";
        Brick: "brick", ["masonry", "wall"], "stonework";
    }
}

impl Position {
    /// Column of the grid: 0 left, 2 right.
    pub fn column(self) -> usize {
        self as usize % 3
    }

    /// Row of the grid: 0 top, 2 bottom.
    pub fn row(self) -> usize {
        self as usize / 3
    }
}

/// Someone who names things: in web words, or sometimes in synonyms.
pub(super) struct Speaker<'a> {
    pub dice: &'a mut Dice,
    /// Probability of a synonym instead of the web word.
    pub synonyms: f64,
}

impl Speaker<'_> {
    pub fn name(&mut self, concept: impl Concept) -> &'static str {
        let word = concept.word();
        if self.dice.chance(self.synonyms) {
            self.dice.pick::<&str>(&word.synonyms)
        } else {
            word.web
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::scan;
    use super::*;

    #[test]
    fn the_scanner_reads_the_longest_phrase() {
        assert_eq!(
            scan::facts("Big red circle, at the top left corner."),
            [("size", 2), ("colour", 0), ("shape", 0), ("position", 0)]
        );
        assert_eq!(scan::facts("in the central part of it"), [("position", 4)]);
    }

    #[test]
    fn the_three_vocabularies_of_objects_share_no_word() {
        let (mut web, mut synonyms, mut unseen) = (HashSet::new(), HashSet::new(), HashSet::new());
        for (word, _) in scan::all_words()
            .iter()
            .filter(|(_, (kind, _))| *kind != "position")
        {
            web.extend(scan::tokens(word.web));
            word.synonyms
                .iter()
                .for_each(|s| synonyms.extend(scan::tokens(s)));
            unseen.extend(scan::tokens(word.unseen));
        }
        assert!(
            web.is_disjoint(&synonyms),
            "{:?}",
            web.intersection(&synonyms)
        );
        assert!(unseen.is_disjoint(&web) && unseen.is_disjoint(&synonyms));
    }

    #[test]
    fn positions_count_row_by_row() {
        assert_eq!((Position::Right.row(), Position::Right.column()), (1, 2));
        assert_eq!(
            (Position::BottomLeft.row(), Position::BottomLeft.column()),
            (2, 0)
        );
    }
}
