//! A small captioned world, drawn by rule, in which methods that train on better language can be compared.
//!
//! An image shows one to four objects (shape × colour × size × texture × position) on a background. From its truth, a
//! [`Scene`], come pixels and every kind of caption that the methods use:
//!
//! | caption | says | words | who learns from it |
//! |---|---|---|---|
//! | web | part of the truth; sometimes an advert, a file name, or another image's truth | one web word per concept | plain CLIP |
//! | four rewrites | exactly what the web caption says | synonyms, four styles | LaCLIP |
//! | synthetic | everything, one sentence per fact | mostly web words | CLIPS |
//! | five test captions | most of the truth | half web words, half synonyms | nobody: retrieval |
//!
//! Zero-shot class names come in web words, in synonyms and in words that no caption uses ([`Words`]), so that the gain
//! of language variety and that of a text encoder which knows the language beforehand can be told apart.
//!
//! Image `i` of a split is a pure function of the settings, the split and `i`; nothing is stored and nothing depends on
//! the order of access.
//!
//! ```
//! use data::scenes::{Scenes, ScenesConfig, Split, Words};
//!
//! let world = Scenes::new(ScenesConfig { image_size: 32, ..Default::default() })?;
//! let sample = world.sample(Split::Train, 7);
//! assert_eq!(sample.image.dimensions(), (32, 32));
//! println!("{} -> {}", world.class_names(Words::Synonyms)[sample.label], sample.captions.web);
//! # Ok::<(), data::scenes::ScenesError>(())
//! ```

mod captions;
mod classes;
mod config;
mod dice;
mod draw;
#[cfg(test)]
mod scan;
mod scene;
mod sheet;
mod source;
mod statement;
mod vocabulary;
pub mod write;

use image::RgbImage;

pub use self::{
    captions::{RewriteStyle, SceneCaptions, WebKind},
    classes::TEMPLATES,
    config::{ScenesConfig, ScenesError},
    scene::{Object, Permille, Relation, Scene},
    sheet::contact_sheet,
    source::{ScenesSource, ScenesSourceConfig},
    statement::{Mention, Statement},
    vocabulary::{Background, Colour, Concept, Position, Shape, Size, Texture, Word, Words},
};

pub use self::dice::Split;
use self::dice::{Dice, Purpose};

/// The world of one configuration.
#[derive(Clone, Debug)]
pub struct Scenes {
    config: ScenesConfig,
}

/// An image with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneSample {
    /// Unique name within the world, such as "train-0000042".
    pub key: String,
    /// `image_size` x `image_size` pixels.
    pub image: RgbImage,
    /// Every caption.
    pub captions: SceneCaptions,
    /// Index into [`Scenes::class_names`].
    pub label: usize,
}

impl Scenes {
    /// A world with these settings.
    ///
    /// # Errors
    ///
    /// [`ScenesError::Setting`] if a setting is out of its range.
    pub fn new(config: ScenesConfig) -> Result<Self, ScenesError> {
        config.check()?;
        Ok(Self { config })
    }

    /// The settings.
    pub fn config(&self) -> &ScenesConfig {
        &self.config
    }

    /// Number of images in a split.
    pub fn len(&self, split: Split) -> usize {
        match split {
            Split::Train => self.config.train_size,
            Split::Validation => self.config.validation_size,
            Split::Test => self.config.test_size,
        }
    }

    /// Whether a split has no images.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Name of an image, unique within the world.
    pub fn key(&self, split: Split, index: usize) -> String {
        format!("{}-{index:07}", split.name())
    }

    /// The truth of an image.
    pub fn scene(&self, split: Split, index: usize) -> Scene {
        let main = self.kind(self.label(split, index));
        Scene::draw(
            &self.config,
            main,
            &mut self.dice(split, index, Purpose::Truth),
        )
    }

    /// The pixels of an image.
    pub fn image(&self, split: Split, index: usize) -> RgbImage {
        self.draw(&self.scene(split, index), split, index)
    }

    /// The captions of an image.
    pub fn captions(&self, split: Split, index: usize) -> SceneCaptions {
        SceneCaptions::write(self, &self.scene(split, index), split, index)
    }

    /// An image with its captions and label. Indices past [`Scenes::len`] give further images of the same kind.
    pub fn sample(&self, split: Split, index: usize) -> SceneSample {
        let scene = self.scene(split, index);
        SceneSample {
            key: self.key(split, index),
            image: self.draw(&scene, split, index),
            captions: SceneCaptions::write(self, &scene, split, index),
            label: self.label(split, index),
        }
    }

    fn draw(&self, scene: &Scene, split: Split, index: usize) -> RgbImage {
        let mut backdrop = self.dice(split, index, Purpose::Backdrop);
        let mut distractors = self.dice(split, index, Purpose::Distractors);
        draw::draw(
            scene,
            self.config.image_size,
            &mut backdrop,
            &mut distractors,
        )
    }

    fn dice(&self, split: Split, index: usize, purpose: Purpose) -> Dice {
        Dice::new(self.config.seed, split, index, purpose)
    }
}

#[cfg(test)]
mod tests;
