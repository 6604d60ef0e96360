//! Retrieval in Karpathy's format, as used for COCO and Flickr30k.

use std::path::Path;

use serde_json::{Value, json};

use super::{Draft, ImageFormat};
use crate::scenes::{SceneSample, Scenes, ScenesError, Split};

/// Writes a new folder with `images/` and `dataset_scenes.json`, which holds the five test captions of each image.
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
    // Karpathy's files call the validation split "val".
    let split_name = if split == Split::Validation {
        "val"
    } else {
        split.name()
    };
    let mut images: Vec<Value> = Vec::new();
    let name = |sample: &SceneSample| sample.key.clone();
    draft.write_images((world, split), format, name, |sample, path| {
        let filename = path.trim_start_matches("images/");
        let imgid = images.len();
        let captions = sample.captions.test.iter().enumerate();
        let sentences: Vec<Value> = captions
            .map(|(i, raw)| json!({"tokens": tokens(raw), "raw": raw, "imgid": imgid, "sentid": imgid * 5 + i}))
            .collect();
        let sentids: Vec<usize> = (imgid * 5..imgid * 5 + 5).collect();
        images.push(json!({
            "sentids": sentids, "imgid": imgid, "sentences": sentences, "split": split_name, "filename": filename,
        }));
        Ok(())
    })?;
    draft.write(
        "dataset_scenes.json",
        json!({"images": images, "dataset": "scenes"}).to_string(),
    )?;
    draft.finish()
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
        assert_eq!(
            tokens("A hollow, red disc."),
            ["a", "hollow", "red", "disc"]
        );
    }
}
