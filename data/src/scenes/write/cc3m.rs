//! An image folder with the files of LaCLIP's CC3M release.

use std::path::Path;

use super::{Draft, ImageFormat, at, text_file};
use crate::scenes::{SceneSample, Scenes, ScenesError, Split, captions::RewriteStyle};

/// Writes a new folder with `images/`, `cc3m_original.csv` (no header; path, web caption, URL), one line-aligned
/// `cc3m_{chatgpt,bard,mscoco,human}.txt` for each style of rewrite, and `cc3m_synthetic.txt`.
///
/// # Errors
///
/// [`ScenesError`] if the folder exists or cannot be written.
pub fn write_cc3m(
    world: &Scenes,
    split: Split,
    folder: &Path,
    format: ImageFormat,
) -> Result<(), ScenesError> {
    let draft = Draft::new(folder)?;
    let mut rows = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    let mut rewrites: [Vec<String>; 4] = Default::default();
    let mut synthetic = Vec::new();
    let name = |sample: &SceneSample| sample.key.clone();
    draft.write_images((world, split), format, name, |sample, path| {
        let url = format!("https://example.com/{path}");
        rows.write_record([&path, &sample.captions.web, &url])
            .map_err(|error| at(&draft.path("cc3m_original.csv"))(error.into()))?;
        for (lines, text) in rewrites.iter_mut().zip(sample.captions.rewrites) {
            lines.push(text);
        }
        synthetic.push(sample.captions.synthetic);
        Ok(())
    })?;
    let rows = rows.into_inner().expect("writing to memory does not fail");
    draft.write("cc3m_original.csv", rows)?;
    for (style, lines) in RewriteStyle::ALL.iter().zip(rewrites) {
        draft.write(format!("cc3m_{}.txt", style.name()), text_file(lines))?;
    }
    draft.write("cc3m_synthetic.txt", text_file(synthetic))?;
    draft.finish()
}

#[cfg(test)]
mod tests {
    use super::super::tests::small_world;
    use super::*;

    #[test]
    fn rows_and_lines_are_aligned() {
        let world = small_world();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cc3m");
        write_cc3m(&world, Split::Train, &folder, ImageFormat::Png).unwrap();
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_path(folder.join("cc3m_original.csv"))
            .unwrap();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        let human = std::fs::read_to_string(folder.join("cc3m_human.txt")).unwrap();
        let human: Vec<_> = human.lines().collect();
        assert_eq!((rows.len(), human.len()), (7, 7));
        for (index, row) in rows.iter().enumerate() {
            let sample = world.sample(Split::Train, index);
            assert_eq!(
                image::open(folder.join(&row[0])).unwrap().to_rgb8(),
                sample.image
            );
            assert_eq!(row[1], sample.captions.web);
            assert_eq!(human[index], sample.captions.rewrites[3]);
        }
    }
}
