//! What a user can set about the world.

use serde::{Deserialize, Serialize};

use super::vocabulary::{Colour, Concept, Shape};

/// Settings of a world. Two worlds of equal settings are equal in every pixel and letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScenesConfig {
    /// Seed of everything. Default 0.
    pub seed: u64,
    /// Side of the square images in pixels, 16 to 1024. The same scene is drawn at any size. Default 64.
    pub image_size: u32,
    /// Images of the training split. Default 20,000.
    pub train_size: usize,
    /// Images of the validation split. Default 500.
    pub validation_size: usize,
    /// Images of the test split. Default 1,000.
    pub test_size: usize,
    /// How many shapes there are, 2 to 10; with `colours` this sets the number of classes. Default 10.
    pub shapes: usize,
    /// How many colours there are, 2 to 8; shapes times colours is the number of classes. Default 8.
    pub colours: usize,
    /// Most objects in a scene, 1 to 4; each number of objects is equally frequent. Default 4.
    pub max_objects: usize,
    /// Most faint lines, and most blurry blobs, that clutter an image. Default 2.
    pub max_distractors: usize,
    /// Share of web captions that belong to another image. Default 0.05.
    pub wrong_caption: f64,
    /// Share of web captions that are advertising and say nothing about the image. Default 0.05.
    pub advert: f64,
    /// Share of web captions that are a file name. Default 0.05.
    pub file_name: f64,
    /// Probability that a web caption leaves an object out (one always stays). Default 0.4.
    pub drop_object: f64,
    /// Probability that a web caption leaves out the size, texture or position of an object, or the background. The
    /// colour, which people name first, is left out half as often. Default 0.6.
    pub drop_attribute: f64,
    /// Share of words that the synthetic caption takes from the synonyms, not from the web words. Default 0.3.
    pub synthetic_synonyms: f64,
    /// Share of words that the test captions take from the synonyms, not from the web words. Default 0.5.
    pub test_synonyms: f64,
}

impl Default for ScenesConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            image_size: 64,
            train_size: 20_000,
            validation_size: 500,
            test_size: 1000,
            shapes: Shape::ALL.len(),
            colours: Colour::ALL.len(),
            max_objects: 4,
            max_distractors: 2,
            wrong_caption: 0.05,
            advert: 0.05,
            file_name: 0.05,
            drop_object: 0.4,
            drop_attribute: 0.6,
            synthetic_synonyms: 0.3,
            test_synonyms: 0.5,
        }
    }
}

impl ScenesConfig {
    /// Says which field is out of its range, if one is.
    ///
    /// # Errors
    ///
    /// [`ScenesError::Setting`] with the field, its value and what it may be.
    pub fn check(&self) -> Result<(), ScenesError> {
        let whole = |field, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(ScenesError::Setting {
                field,
                value: value.to_string(),
                allowed: format!("{low} to {high}"),
            })
        };
        whole("image_size", self.image_size as usize, 16, 1024)?;
        whole("shapes", self.shapes, 2, Shape::ALL.len())?;
        whole("colours", self.colours, 2, Colour::ALL.len())?;
        whole("max_objects", self.max_objects, 1, 4)?;
        whole("max_distractors", self.max_distractors, 0, 8)?;
        whole("train_size", self.train_size, 1, u32::MAX as usize)?;
        for (field, size) in [
            ("validation_size", self.validation_size),
            ("test_size", self.test_size),
        ] {
            whole(field, size, 0, u32::MAX as usize)?;
        }

        let rates = [
            ("wrong_caption", self.wrong_caption),
            ("advert", self.advert),
            ("file_name", self.file_name),
            (
                "wrong_caption + advert + file_name",
                self.wrong_caption + self.advert + self.file_name,
            ),
            ("drop_object", self.drop_object),
            ("drop_attribute", self.drop_attribute),
            ("synthetic_synonyms", self.synthetic_synonyms),
            ("test_synonyms", self.test_synonyms),
        ];
        for (field, value) in rates {
            if !(0.0..=1.0).contains(&value) {
                let allowed = "0 to 1".into();
                return Err(ScenesError::Setting {
                    field,
                    value: value.to_string(),
                    allowed,
                });
            }
        }
        Ok(())
    }
}

/// What can go wrong with scenes.
#[derive(Debug, thiserror::Error)]
pub enum ScenesError {
    /// A setting is out of its range.
    #[error("scenes: {field} is {value}, but it must be {allowed}")]
    Setting {
        /// Name of the field.
        field: &'static str,
        /// The value given.
        value: String,
        /// The values allowed.
        allowed: String,
    },
    /// A file or folder could not be written.
    #[error("scenes: cannot write {}: {source}", path.display())]
    Write {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The place to write to is taken.
    #[error("scenes: {} exists already; remove it or choose another folder", path.display())]
    Exists {
        /// Where.
        path: std::path::PathBuf,
    },
    /// An image could not be encoded.
    #[error("scenes: cannot encode image {key}: {source}")]
    Encode {
        /// Key of the sample.
        key: String,
        /// Why.
        source: image::ImageError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_refused() {
        let error = serde_json::from_str::<ScenesConfig>(r#"{"image_sise": 32}"#).unwrap_err();
        assert!(error.to_string().contains("image_sise"), "{error}");
        let config: ScenesConfig = serde_json::from_str(r#"{"image_size": 32}"#).unwrap();
        assert_eq!(
            config,
            ScenesConfig {
                image_size: 32,
                ..Default::default()
            }
        );
    }

    #[test]
    fn a_rate_above_one_is_named_with_its_range() {
        let config = ScenesConfig {
            wrong_caption: 0.7,
            advert: 0.4,
            ..Default::default()
        };
        let message = config.check().unwrap_err().to_string();
        assert!(
            message.contains("wrong_caption + advert + file_name is 1.15"),
            "{message}"
        );
        let config = ScenesConfig {
            advert: f64::NAN,
            ..Default::default()
        };
        assert!(config.check().is_err());
        let message = ScenesConfig {
            colours: 9,
            ..Default::default()
        }
        .check()
        .unwrap_err()
        .to_string();
        assert_eq!(message, "scenes: colours is 9, but it must be 2 to 8");
    }
}
