//! Groups of images and captions to be told apart: SugarCrepe and Winoground.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{EvalError, Result};
use crate::files::{read_json, read_jsonl};
use crate::images::ImageRef;

/// Groups of the same size; image `i` of a group belongs to its text `i`.
#[derive(Clone, Debug)]
pub struct ChoiceData {
    /// Name under which results are filed.
    pub name: String,
    /// Images of all groups, group by group.
    pub images: Vec<ImageRef>,
    /// Texts of all groups, group by group.
    pub texts: Vec<String>,
    /// Images per group.
    pub images_per_group: usize,
    /// Texts per group.
    pub texts_per_group: usize,
}

#[derive(Deserialize)]
struct SugarCrepe {
    filename: String,
    caption: String,
    negative_caption: String,
}

/// SugarCrepe (Hsieh et al., 2023): one image, the right caption and a wrong one. `dir` holds COCO val2017.
pub fn sugar_crepe(path: &Path, dir: &Path) -> Result<ChoiceData> {
    let entries: Map<String, Value> = read_json(path, "a file of SugarCrepe")?;
    let mut data = ChoiceData {
        name: format!(
            "sugar_crepe/{}",
            path.file_stem().unwrap_or_default().to_string_lossy()
        ),
        images: Vec::new(),
        texts: Vec::new(),
        images_per_group: 1,
        texts_per_group: 2,
    };
    for (id, entry) in entries {
        let entry: SugarCrepe = serde_json::from_value(entry)
            .map_err(|e| EvalError::format(path, format!("entry `{id}`: {e}")))?;
        data.images.push(ImageRef::File(dir.join(entry.filename)));
        data.texts.extend([entry.caption, entry.negative_caption]);
    }
    data.not_empty(path)
}

#[derive(Deserialize)]
struct Winoground {
    image_0: String,
    image_1: String,
    caption_0: String,
    caption_1: String,
}

/// Winoground (Thrush et al., 2022) as `examples.jsonl`; images are names below `dir`, `.png` if without extension.
pub fn winoground(path: &Path, dir: &Path) -> Result<ChoiceData> {
    let entries: Vec<Winoground> = read_jsonl(path)?;
    let image = |name: &str| {
        let name = Path::new(name);
        ImageRef::File(dir.join(if name.extension().is_some() {
            name.into()
        } else {
            name.with_extension("png")
        }))
    };
    let data = ChoiceData {
        name: "winoground".into(),
        images: entries
            .iter()
            .flat_map(|e| [image(&e.image_0), image(&e.image_1)])
            .collect(),
        texts: entries
            .into_iter()
            .flat_map(|e| [e.caption_0, e.caption_1])
            .collect(),
        images_per_group: 2,
        texts_per_group: 2,
    };
    data.not_empty(path)
}

impl ChoiceData {
    fn not_empty(self, path: &Path) -> Result<Self> {
        if self.images.is_empty() {
            return Err(EvalError::format(path, "no group of images and captions"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sugar_crepe_lists_the_right_caption_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("add_att.json");
        let entry =
            r#"{"filename": "1.jpg", "caption": "a cat", "negative_caption": "a blue cat"}"#;
        std::fs::write(&path, format!(r#"{{"7": {entry}}}"#)).unwrap();
        let data = sugar_crepe(&path, Path::new("val2017")).unwrap();
        assert_eq!(
            (data.name.as_str(), data.texts),
            (
                "sugar_crepe/add_att",
                vec!["a cat".into(), "a blue cat".to_string()]
            )
        );
        std::fs::write(&path, r#"{"7": {"file": 1}}"#).unwrap();
        assert!(
            sugar_crepe(&path, Path::new(""))
                .unwrap_err()
                .to_string()
                .contains("entry `7`")
        );
    }

    #[test]
    fn winoground_pairs_two_images_with_two_captions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("examples.jsonl");
        let line = r#"{"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "caption_0": "x", "caption_1": "y"}"#;
        std::fs::write(&path, line).unwrap();
        let data = winoground(&path, Path::new("i")).unwrap();
        assert_eq!(data.images[1], ImageRef::File("i/ex_0_img_1.png".into()));
    }
}
