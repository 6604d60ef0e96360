//! Zero-shot classification as folders of classes, as ImageNet's validation set.

use std::path::Path;

use super::{Draft, ImageFormat, text_file};
use crate::scenes::{SceneSample, Scenes, ScenesError, Split, TEMPLATES, Words};

/// Writes a new folder with `images/`, a folder in it per class (`c000`, `c001`, ...: their order is that of the
/// labels), `classnames.txt` (synonyms), `classnames_web.txt`, `classnames_unseen.txt` (one name per line, in order) and
/// `templates.txt`.
///
/// # Errors
///
/// [`ScenesError`] if the folder exists or cannot be written.
pub fn write_imagenet(
    world: &Scenes,
    split: Split,
    folder: &Path,
    format: ImageFormat,
) -> Result<(), ScenesError> {
    let draft = Draft::new(folder)?;
    // A class without an image has a folder nevertheless, or the order of folders would not be that of labels.
    for label in 0..world.num_classes() {
        draft.create_dir(&format!("images/{}", class_folder(label)))?;
    }
    let name = |sample: &SceneSample| format!("{}/{}", class_folder(sample.label), sample.key);
    draft.write_images((world, split), format, name, |_, _| Ok(()))?;
    let lists = [
        ("classnames.txt", Words::Synonyms),
        ("classnames_web.txt", Words::Web),
        ("classnames_unseen.txt", Words::Unseen),
    ];
    for (name, words) in lists {
        draft.write(name, text_file(world.class_names(words)))?;
    }
    draft.write("templates.txt", text_file(TEMPLATES))?;
    draft.finish()
}

fn class_folder(label: usize) -> String {
    format!("c{label:03}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::small_world;
    use super::*;

    #[test]
    fn every_image_lies_in_the_folder_of_its_class() {
        let world = small_world();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("classes");
        write_imagenet(&world, Split::Test, &folder, ImageFormat::Webp).unwrap();
        for index in 0..5 {
            let sample = world.sample(Split::Test, index);
            let path = format!("images/c{:03}/{}.webp", sample.label, sample.key);
            assert_eq!(
                image::open(folder.join(path)).unwrap().to_rgb8(),
                sample.image
            );
        }
        let names = std::fs::read_to_string(folder.join("classnames.txt")).unwrap();
        assert_eq!(
            names.lines().collect::<Vec<_>>(),
            world.class_names(Words::Synonyms)
        );
        assert_eq!(std::fs::read_dir(folder.join("images")).unwrap().count(), 4);
    }
}
