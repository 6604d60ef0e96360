//! ObjectNet (Barbu et al., 2019), the 113 classes that it shares with ImageNet, under its own names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use data::Tally;

use crate::datasets::folder::labelled_images;
use crate::datasets::{ClassificationData, Labels, note_empty_classes, passed_over};
use crate::error::{EvalError, Result};
use crate::files::read_json;
use crate::prompts::ClassName;

/// Reads `folder_to_objectnet_label.json`, `objectnet_to_imagenet_1k.json` and `objectnet-1.0/images/` below `root`.
/// Classes are the folders with an ImageNet counterpart, sorted by folder; names are lower-cased.
pub fn objectnet(root: &Path) -> Result<ClassificationData> {
    let name = "objectnet";
    let labels_path = root.join("folder_to_objectnet_label.json");
    let label_of_folder: BTreeMap<String, String> =
        read_json(&labels_path, "ObjectNet's map from folder to label")?;
    let shared_path = root.join("objectnet_to_imagenet_1k.json");
    let shared: BTreeMap<String, String> = read_json(&shared_path, "ObjectNet's map to ImageNet")?;
    let known: BTreeSet<&String> = label_of_folder.values().collect();
    if let Some(unknown) = shared.keys().find(|label| !known.contains(label)) {
        let reason = format!("`{unknown}` is not in {}", labels_path.display());
        return Err(EvalError::format(&shared_path, reason));
    }
    let images_dir = root.join("objectnet-1.0").join("images");
    let classes: Vec<(&String, &String)> = label_of_folder
        .iter()
        .filter(|(_, label)| shared.contains_key(*label))
        .collect();
    let folders = classes
        .iter()
        .enumerate()
        .map(|(class, (folder, _))| (class, images_dir.join(folder)));
    let mut passed = Tally::default();
    let (images, labels) = labelled_images(name, &images_dir, folders, &mut passed)?;
    let names: Vec<ClassName> = classes
        .iter()
        .map(|(_, label)| label.to_lowercase().into())
        .collect();
    let mut notes =
        note_empty_classes(names.len(), &labels, |class| names[class].main().to_owned());
    notes.extend(passed_over(&passed));
    Ok(ClassificationData {
        classes: Some(names),
        notes,
        ..ClassificationData::new(name, images, Labels::Single(labels))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_the_shared_classes_are_kept_in_folder_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let labels = r#"{"alarm_clock": "Alarm clock", "air_freshener": "Air freshener", "backpack": "Backpack"}"#;
        fs::write(root.join("folder_to_objectnet_label.json"), labels).unwrap();
        let shared =
            r#"{"Backpack": "backpack, back pack", "Alarm clock": "analog clock; digital clock"}"#;
        fs::write(root.join("objectnet_to_imagenet_1k.json"), shared).unwrap();
        for folder in ["alarm_clock", "air_freshener", "backpack"] {
            let folder = root.join("objectnet-1.0/images").join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("x.png"), b"").unwrap();
        }
        let data = objectnet(root).unwrap();
        assert_eq!(data.labels, Labels::Single(vec![0, 1]));
        let names: Vec<_> = data
            .classes
            .unwrap()
            .iter()
            .map(|c| c.main().to_owned())
            .collect();
        assert_eq!(names, ["alarm clock", "backpack"]);
    }
}
