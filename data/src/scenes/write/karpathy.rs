//! Retrieval in Karpathy's format, as used for COCO and Flickr30k.

use std::path::Path;

use serde_json::{Value, json};

use super::{Draft, ImageFormat};
use crate::scenes::{SceneSample, Scenes, ScenesConfig, ScenesError, Split};

/// Writes a new folder with `images/` and three files of captions of the same images: `dataset_scenes.json` with the five
/// test captions of each, `dataset_scenes_synonyms.json` with the same five in words that no web caption has, and
/// `dataset_scenes_long.json` with the one synthetic caption, which says everything.
///
/// # Errors
///
/// [`ScenesError`] if the folder exists or cannot be written.
pub fn write_karpathy(
    world: &Scenes,
    split: Split,
    folder: &Path,
    format: ImageFormat,
) -> Result<(), ScenesError> {
    let draft = Draft::new(folder)?;
    // What a caption says does not depend on the words that it takes, nor does the image.
    let synonyms = Scenes::new(ScenesConfig {
        test_synonyms: 1.0,
        ..world.config().clone()
    })?;
    let [mut short, mut other_words, mut long] = ["", "_synonyms", "_long"].map(|name| Dataset {
        file: format!("dataset_scenes{name}.json"),
        split,
        images: Vec::new(),
        sentences: 0,
    });
    let name = |sample: &SceneSample| sample.key.clone();
    let mut index = 0;
    draft.write_images((world, split), format, name, |sample, path| {
        let filename = path.trim_start_matches("images/");
        short.add(filename, &sample.captions.test);
        other_words.add(filename, &synonyms.captions(split, index).test);
        long.add(filename, std::slice::from_ref(&sample.captions.synthetic));
        index += 1;
        Ok(())
    })?;
    for dataset in [short, other_words, long] {
        let Dataset { file, images, .. } = dataset;
        draft.write(
            &file,
            json!({"images": images, "dataset": "scenes"}).to_string(),
        )?;
    }
    draft.finish()
}

/// One file of captions.
struct Dataset {
    file: String,
    split: Split,
    images: Vec<Value>,
    sentences: usize,
}

impl Dataset {
    fn add(&mut self, filename: &str, captions: &[String]) {
        // Karpathy's files call the validation split "val".
        let split = match self.split {
            Split::Validation => "val",
            split => split.name(),
        };
        let imgid = self.images.len();
        let sentids: Vec<usize> = (self.sentences..self.sentences + captions.len()).collect();
        self.sentences += captions.len();
        let sentence = |(raw, sentid): (&String, &usize)| json!({"tokens": tokens(raw), "raw": raw, "imgid": imgid, "sentid": sentid});
        let sentences: Vec<Value> = captions.iter().zip(&sentids).map(sentence).collect();
        self.images.push(json!({
            "sentids": sentids, "imgid": imgid, "sentences": sentences, "split": split, "filename": filename,
        }));
    }
}

/// Lower-case words without punctuation.
fn tokens(text: &str) -> Vec<String> {
    text.split_whitespace()
        .map(|word| {
            word.trim_matches(|c: char| !c.is_alphanumeric())
                .to_lowercase()
        })
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::small_world;
    use super::*;

    #[test]
    fn every_image_has_its_five_captions() {
        let world = small_world();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("karpathy");
        write_karpathy(&world, Split::Test, &folder, ImageFormat::Png).unwrap();
        let text = std::fs::read(folder.join("dataset_scenes.json")).unwrap();
        let dataset: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(dataset["images"].as_array().unwrap().len(), 5);
        for (index, image) in dataset["images"].as_array().unwrap().iter().enumerate() {
            let sample = world.sample(Split::Test, index);
            let path = folder
                .join("images")
                .join(image["filename"].as_str().unwrap());
            assert_eq!(image::open(path).unwrap().to_rgb8(), sample.image);
            assert_eq!(image["split"], "test");
            for i in 0..5 {
                assert_eq!(image["sentences"][i]["raw"], sample.captions.test[i]);
                assert_eq!(image["sentences"][i]["sentid"], image["sentids"][i]);
            }
        }
        // The same images in other words, and with all that can be said.
        let read = |name: &str| -> Value {
            let text = std::fs::read(folder.join(name)).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let (synonyms, long) = (
            read("dataset_scenes_synonyms.json"),
            read("dataset_scenes_long.json"),
        );
        let in_synonyms = Scenes::new(ScenesConfig {
            test_synonyms: 1.0,
            ..world.config().clone()
        })
        .unwrap();
        let mut changed = 0;
        for index in 0..5 {
            let sample = world.sample(Split::Test, index);
            let of = |dataset: &Value| dataset["images"][index].clone();
            let other_words = in_synonyms.captions(Split::Test, index);
            assert_eq!(other_words.test_statements, sample.captions.test_statements);
            assert_eq!(of(&synonyms)["filename"], of(&dataset)["filename"]);
            for (i, short) in sample.captions.test.iter().enumerate() {
                changed += usize::from(of(&synonyms)["sentences"][i]["raw"] != *short);
            }
            assert_eq!(of(&long)["sentences"][0]["raw"], sample.captions.synthetic);
            assert_eq!(of(&long)["sentids"], json!([index]));
        }
        assert!(changed > 15, "{changed} of 25 captions have other words");
        let web = crate::scenes::Words::Web;
        let all = synonyms.to_string();
        for class in world.class_names(web) {
            assert!(!all.contains(&format!(" {class}")), "{class}");
        }
        assert_eq!(
            tokens("A hollow, red disc."),
            ["a", "hollow", "red", "disc"]
        );
    }
}
