use super::*;
use crate::images::ImageRef;
use crate::{DualEncoder, EvalError, Extraction, Features, TextEncoder};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use clip::preprocess::{Preprocess, PreprocessConfig, RgbImage};
use data::csv::{CsvConfig, CsvSource};
use data::npy::Float;
use data::strings::{TableFormat, read_column};
use files::Shard;
use std::collections::BTreeMap;
use std::path::Path;

/// An image is the mean of its pixels, a text its length; the second number is the size of the batch.
struct Plain(Preprocess);

fn encoder() -> Plain {
    Plain(Preprocess::new(PreprocessConfig {
        size: [8, 8],
        mean: [0.0; 3],
        std: [1.0; 3],
        ..PreprocessConfig::default()
    }))
}

impl TextEncoder<Flex> for Plain {
    fn embed_dim(&self) -> usize {
        2
    }

    fn text_embeddings(&self, texts: &[String]) -> crate::Result<Tensor<Flex, 2>> {
        let n = texts.len() as f32;
        if texts.iter().any(|text| text == "refused") {
            return Err(EvalError::Encoder("refused".into()));
        }
        let values: Vec<f32> = texts.iter().flat_map(|t| [t.len() as f32, n]).collect();
        Ok(Tensor::from_data(
            TensorData::new(values, [texts.len(), 2]),
            &Default::default(),
        ))
    }

    fn encode_texts(&self, texts: &[String]) -> crate::Result<Tensor<Flex, 2>> {
        self.text_embeddings(texts)
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        Some(texts.iter().filter(|text| text.len() > 12).count())
    }
}

impl DualEncoder<Flex> for Plain {
    fn preprocess(&self) -> &Preprocess {
        &self.0
    }

    fn image_embeddings(&self, images: Tensor<Flex, 4>) -> Tensor<Flex, 2> {
        let n = images.dims()[0];
        let mean = images.reshape([n, 192]).mean_dim(1);
        Tensor::cat(
            vec![mean, Tensor::full([n, 1], n as f32, &Default::default())],
            1,
        )
    }

    fn encode_images(&self, images: Tensor<Flex, 4>) -> Tensor<Flex, 2> {
        self.image_embeddings(images)
    }
}

const ROWS: usize = 23;
/// Is no image.
const BAD: usize = 5;

fn table(folder: &Path, captions: impl Fn(usize) -> String) -> Rows {
    let mut text = "filepath\ttitle\n".to_owned();
    for i in 0..ROWS {
        let path = folder.join(format!("{i}.png"));
        match i {
            BAD => std::fs::write(&path, "no image").unwrap(),
            _ => RgbImage::from_pixel(8, 8, image::Rgb([10 * i as u8; 3]))
                .save(&path)
                .unwrap(),
        }
        text += &format!("{}\t{}\n", path.display(), captions(i));
    }
    let path = folder.join("t.tsv");
    std::fs::write(&path, text).unwrap();
    Rows::Table(Box::new(CsvSource::open(CsvConfig::new(path)).unwrap()))
}

fn caption(i: usize) -> String {
    "x".repeat(i + 1)
}

fn settings(folder: &Path, share: Shard) -> Settings {
    Settings {
        folder: folder.into(),
        part_size: 10,
        float: Float::F32,
        metadata: TableFormat::Jsonl,
        share,
        overwrite: false,
        options: BTreeMap::new(),
    }
}

fn run(rows: &Rows, settings: &Settings) -> crate::Result<Outcome> {
    let options = Extraction {
        batch_size: 4,
        ..Extraction::default()
    };
    embed(&encoder(), rows, settings, &options, &Default::default())
}

/// All files below a folder with their bytes.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for kind in folder.read_dir().unwrap() {
        for file in kind.unwrap().path().read_dir().unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn row_i_of_the_three_files_is_one_image_with_its_caption() {
    let (input, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rows = table(input.path(), caption);
    let made = run(&rows, &settings(out.path(), Shard::WHOLE)).unwrap();
    assert_eq!((made.parts, made.rows, made.left_out), (3, ROWS - 1, 1));
    assert!(made.reasons[0].contains("5.png"), "{:?}", made.reasons);
    assert_eq!(made.truncated, Some(ROWS - 12));
    let names: Vec<_> = content(out.path()).into_keys().collect();
    assert_eq!(names.len(), 12, "{names:?}");
    assert_eq!(names[0], "img_emb/img_emb_0.npy");

    let images = Features::open(out.path(), "image_features").unwrap();
    let texts = Features::open(out.path(), "text_features").unwrap();
    assert_eq!(
        (images.len(), images.dim(), texts.len()),
        (ROWS - 1, 2, ROWS - 1)
    );
    let kept: Vec<usize> = (0..ROWS).filter(|i| *i != BAD).collect();
    let (mut image, mut text) = ([0.0; 2], [0.0; 2]);
    for (row, &i) in kept.iter().enumerate() {
        images.copy_row(row, &mut image);
        texts.copy_row(row, &mut text);
        assert!(
            (image[0] - 10.0 * i as f32 / 255.0).abs() < 1e-6,
            "{i}: {image:?}"
        );
        assert_eq!(text[0], (i + 1) as f32);
        assert_eq!(texts.names().unwrap()[row], caption(i));
        assert!(images.names().unwrap()[row].ends_with(&format!("/{i}.png")));
    }
    // Batches of four begin anew with every part of ten, of which the last batch has two.
    let sizes: Vec<f32> = texts.to_vec().chunks(2).map(|row| row[1]).collect();
    let expected = [
        [4.0; 4].as_slice(),
        &[3.0; 3],
        &[2.0; 2],
        &[4.0; 8],
        &[2.0; 2],
        &[3.0; 3],
    ];
    assert_eq!(sizes, expected.concat());
    let keys = read_column(&out.path().join("metadata/metadata_2.jsonl"), "key").unwrap();
    assert_eq!(keys.unwrap().len(), 3);
    assert_eq!(check(out.path()).unwrap(), made);
}

#[test]
fn shares_and_runs_that_were_killed_give_the_same_bytes_as_one_run() {
    let input = tempfile::tempdir().unwrap();
    let rows = table(input.path(), caption);
    let [once, shared, killed] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    run(&rows, &settings(once.path(), Shard::WHOLE)).unwrap();
    for index in [1, 0] {
        let share = Shard::new(index, 2).unwrap();
        run(&rows, &settings(shared.path(), share)).unwrap();
        if index == 1 {
            let message = check(shared.path()).unwrap_err().to_string();
            assert!(message.contains("1 of 3 parts are missing: 0"), "{message}");
        }
    }
    assert_eq!(content(shared.path()), content(once.path()));

    // The first part is whole, the second was being written, the third lacks a file.
    run(&rows, &settings(killed.path(), Shard::WHOLE)).unwrap();
    let path = |name: &str| killed.path().join(name);
    std::fs::remove_file(path("parts/part_1.json")).unwrap();
    std::fs::remove_file(path("img_emb/img_emb_1.npy")).unwrap();
    std::fs::write(path("img_emb/img_emb_1.npy.partial"), "half").unwrap();
    std::fs::remove_file(path("text_emb/text_emb_2.npy")).unwrap();
    let again = run(&rows, &settings(killed.path(), Shard::WHOLE)).unwrap();
    assert_eq!((again.parts, again.found, again.left_out), (3, 1, 1));
    assert_eq!(content(killed.path()), content(once.path()));
}

#[test]
fn a_failure_leaves_nothing_half_written_and_keeps_the_parts_before() {
    let (input, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rows = table(input.path(), |i| match i {
        17 => "refused".into(),
        i => caption(i),
    });
    assert!(run(&rows, &settings(out.path(), Shard::WHOLE)).is_err());
    let names: Vec<_> = content(out.path()).into_keys().collect();
    let first = [
        "img_emb/img_emb_0.npy",
        "metadata/metadata_0.jsonl",
        "parts/part_0.json",
        "text_emb/text_emb_0.npy",
    ];
    assert_eq!(names, first);
}

#[test]
fn work_that_is_refused_leaves_no_folder() {
    let root = tempfile::tempdir().unwrap();
    let rows = Rows::Captions(vec!["refused".into()]);
    std::fs::create_dir(root.path().join("there")).unwrap();
    for out in ["there", "new/one"] {
        let settings = settings(&root.path().join(out), Shard::WHOLE);
        assert!(run(&rows, &settings).is_err());
    }
    let left: Vec<_> = root.path().read_dir().unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let there = root.path().join("there");
    assert_eq!(there.read_dir().unwrap().count(), 0);
}

#[test]
fn parts_of_other_work_are_refused_by_name_until_they_are_overwritten() {
    let (input, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rows = table(input.path(), caption);
    run(&rows, &settings(out.path(), Shard::WHOLE)).unwrap();
    let half = Settings {
        float: Float::F16,
        ..settings(out.path(), Shard::WHOLE)
    };
    let message = run(&rows, &half).unwrap_err().to_string();
    for word in ["part_0.json", "dtype <f4, not <f2", "overwrite"] {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
    let share = Settings {
        share: Shard::new(0, 3).unwrap(),
        overwrite: true,
        ..half.clone()
    };
    run(&rows, &share).unwrap();
    let message = check(out.path()).unwrap_err().to_string();
    assert!(message.contains("does not go together"), "{message}");
    let message = Features::open(out.path(), "image_features")
        .unwrap_err()
        .to_string();
    assert!(message.contains("another kind"), "{message}");
    let all = Settings {
        overwrite: true,
        ..half
    };
    run(&rows, &all).unwrap();
    let features = Features::open(out.path(), "text_features").unwrap();
    assert_eq!(features.to_vec()[..2], [1.0, 4.0]);
}

#[test]
fn parts_of_another_size_or_with_another_side_do_not_stay_beside_new_ones() {
    let (input, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rows = table(input.path(), caption);
    run(&rows, &settings(out.path(), Shard::WHOLE)).unwrap();
    let larger = Settings {
        part_size: 20,
        overwrite: true,
        ..settings(out.path(), Shard::WHOLE)
    };
    let message = run(&rows, &larger).unwrap_err().to_string();
    assert!(
        message.contains("3 parts, and 2 are to be made"),
        "{message}"
    );
    let again = Settings {
        overwrite: true,
        ..settings(out.path(), Shard::WHOLE)
    };
    let captions = (0..ROWS).map(caption).collect();
    run(&Rows::Captions(captions), &again).unwrap();
    assert!(
        content(out.path())
            .keys()
            .all(|name| !name.starts_with("img_emb"))
    );
}

#[test]
fn images_and_captions_alone_have_their_side_only() {
    let (input, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    table(input.path(), caption);
    let images = (0..2).map(|i| ImageRef::File(input.path().join(format!("{i}.png"))));
    let made = run(
        &Rows::Images(images.collect()),
        &settings(out.path(), Shard::WHOLE),
    )
    .unwrap();
    assert_eq!((made.parts, made.rows, made.truncated), (1, 2, Some(0)));
    assert!(!out.path().join("text_emb").exists());
    let texts = tempfile::tempdir().unwrap();
    let captions = vec!["a".to_owned(), "b".to_owned()];
    run(
        &Rows::Captions(captions),
        &settings(texts.path(), Shard::WHOLE),
    )
    .unwrap();
    assert!(!texts.path().join("img_emb").exists());
    let read = Features::open(texts.path(), "text_features").unwrap();
    assert_eq!(read.names().unwrap(), ["a", "b"]);
}

#[test]
fn a_cut_or_foreign_table_of_numpy_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let open = || {
        Features::open(&path, "image_features")
            .unwrap_err()
            .to_string()
    };
    let mut writer = data::npy::RowWriter::create(&path, 2, Float::F16).unwrap();
    writer.push(&[1.0; 6]).unwrap();
    writer.finish().unwrap();
    let features = Features::open(&path, "image_features").unwrap();
    assert_eq!((features.len(), features.names()), (3, None));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(open().contains("too few"), "{}", open());
    std::fs::write(&path, String::from_utf8_lossy(b"abc").as_bytes()).unwrap();
    assert!(open().contains("a.npy"), "{}", open());
}
