//! Labels for zero-shot classification: the shape and colour of the main object.

use super::{
    Scenes, Split,
    dice::{Dice, Purpose},
    vocabulary::{Colour, Concept, Shape, Words},
};

/// Prompts for zero-shot classification; `{}` stands for the class name.
pub const TEMPLATES: [&str; 4] = [
    "a picture of a {}.",
    "a {}.",
    "there is a {} in the image.",
    "an image with a {}.",
];

impl Scenes {
    /// Number of classes: shapes times colours.
    pub fn num_classes(&self) -> usize {
        self.config.shapes * self.config.colours
    }

    /// Top-1 accuracy of guessing. It is exact: each class is equally frequent (see [`Scenes::label`]).
    pub fn chance(&self) -> f64 {
        1.0 / self.num_classes() as f64
    }

    /// The class of an image, known without drawing it.
    ///
    /// Classes come in shuffled blocks: images `k * num_classes .. (k + 1) * num_classes` hold each class once.
    pub fn label(&self, split: Split, index: usize) -> usize {
        let classes = self.num_classes();
        let mut block: Vec<usize> = (0..classes).collect();
        Dice::new(self.config.seed, split, index / classes, Purpose::Classes).shuffle(&mut block);
        block[index % classes]
    }

    /// Names of the classes in order of their labels, such as "crimson disc".
    ///
    /// [`Words::Synonyms`] is the benchmark: web captions never use these words, rewrites do. [`Words::Web`] asks whether
    /// the images were understood at all, [`Words::Unseen`] whether the text encoder knows more than the training texts.
    pub fn class_names(&self, words: Words) -> Vec<String> {
        (0..self.num_classes())
            .map(|label| {
                let (shape, colour) = self.kind(label);
                format!("{} {}", colour.word().of(words), shape.word().of(words))
            })
            .collect()
    }

    /// Shape and colour of a class.
    pub(super) fn kind(&self, label: usize) -> (Shape, Colour) {
        (
            Shape::ALL[label / self.config.colours],
            Colour::ALL[label % self.config.colours],
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::{ScenesConfig, scan};
    use super::*;

    fn world() -> Scenes {
        Scenes::new(ScenesConfig::default()).unwrap()
    }

    #[test]
    fn every_block_holds_each_class_once() {
        let world = world();
        for start in [0, 80, 800] {
            let labels: HashSet<_> = (start..start + 80)
                .map(|i| world.label(Split::Test, i))
                .collect();
            assert_eq!(labels.len(), world.num_classes());
        }
        let order = |split| (0..80).map(|i| world.label(split, i)).collect::<Vec<_>>();
        assert_ne!(order(Split::Train), order(Split::Test));
    }

    #[test]
    fn the_label_is_the_main_object() {
        let world = world();
        for index in 0..100 {
            let main = *world.scene(Split::Test, index).main();
            assert_eq!(
                world.kind(world.label(Split::Test, index)),
                (main.shape, main.colour)
            );
        }
    }

    #[test]
    fn class_names_are_distinct_in_every_vocabulary() {
        let world = world();
        for words in [Words::Web, Words::Synonyms, Words::Unseen] {
            assert_eq!(
                world
                    .class_names(words)
                    .into_iter()
                    .collect::<HashSet<_>>()
                    .len(),
                80
            );
        }
        assert_eq!(world.class_names(Words::Synonyms)[0], "crimson disc");
        assert_eq!(world.chance(), 1.0 / 80.0);
    }

    #[test]
    fn web_captions_never_use_a_word_of_the_class_names() {
        let world = world();
        let names: HashSet<String> = [Words::Synonyms, Words::Unseen]
            .iter()
            .flat_map(|w| world.class_names(*w))
            .flat_map(|n| scan::tokens(&n))
            .collect();
        for index in 0..3000 {
            let web = world.captions(Split::Train, index).web;
            let shared: Vec<_> = scan::tokens(&web)
                .into_iter()
                .filter(|t| names.contains(t))
                .collect();
            assert!(shared.is_empty(), "{web:?} uses {shared:?}");
        }
    }
}
