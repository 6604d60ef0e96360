use super::*;
use crate::extract::{image_features, text_features};
use crate::images::ImageRef;
use crate::{DualEncoder, Extraction, TextEncoder};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use clip::preprocess::{Preprocess, PreprocessConfig, RgbImage};
use data::npy::Float;
use std::collections::BTreeMap;
use std::path::Path;

const BATCH: usize = 3;

fn work() -> Work {
    let (images, texts) = (names("i", 20), names("t", 7));
    Work {
        images: 20,
        texts: 7,
        batch_size: BATCH,
        list: list_digest(
            images.iter().map(String::as_str),
            &[],
            texts.iter().map(String::as_str),
        ),
        model: "abc".into(),
        options: BTreeMap::from([("precision".into(), "f32".into())]),
    }
}

fn names(kind: &str, n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{kind}{i}")).collect()
}

/// Rows of two numbers; image 5 cannot be read.
fn embedded(share: Shard) -> (Embedded, Vec<String>) {
    let images = || work().images_of(share).filter(|i| *i != 5);
    let bad = work().images_of(share).contains(&5);
    let made = Embedded {
        embed_dim: 2,
        images: images().flat_map(|i| [i as f32, 0.5]).collect(),
        image_paths: images().map(|i| names("i", 20)[i].clone()).collect(),
        text_features: work()
            .texts_of(share)
            .flat_map(|i| [i as f32, -1.0])
            .collect(),
        texts: names("t", 7)[work().texts_of(share)].to_vec(),
        scale: 14.0,
        float: Float::F32,
    };
    (
        made,
        bad.then(|| "i5: no image".into()).into_iter().collect(),
    )
}

fn save(folder: &Path, share: Shard, work: &Work) {
    let (made, left_out) = embedded(share);
    let note = ShareNote::new(share, work, left_out);
    made.save(&share.path(&folder.join("e.safetensors")), Some(&note))
        .unwrap();
}

fn shares(of: usize) -> impl Iterator<Item = Shard> {
    (0..of).map(move |index| Shard::new(index, of).unwrap())
}

#[test]
fn merged_shares_are_the_file_made_in_one_go_whatever_their_number() {
    for of in [1, 2, 3, 4, 11] {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("e.safetensors");
        shares(of).for_each(|share| save(folder.path(), share, &work()));
        let merged = merge(&whole).unwrap();
        assert_eq!((merged.shares, merged.listed), (of, 20));
        assert_eq!((merged.images, merged.texts), (19, 7));
        assert_eq!(merged.left_out, ["i5: no image"]);
        let one = folder.path().join("one");
        embedded(Shard::WHOLE).0.save(&one, None).unwrap();
        assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(one).unwrap());
        let rows = crate::Features::open(&whole, "image_features").unwrap();
        assert_eq!(
            rows.to_vec()[2 * 5..2 * 5 + 2],
            [6.0, 0.5],
            "row 5 is image 6"
        );
    }
}

#[test]
fn halves_are_merged_as_they_are_and_lie_where_their_type_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("e.safetensors");
    let save = |share: Shard, path: &Path, note: bool, float: Float| {
        let (made, left_out) = embedded(share);
        let note = note.then(|| ShareNote::new(share, &work(), left_out));
        Embedded { float, ..made }
            .save(path, note.as_ref())
            .unwrap();
    };
    shares(3).for_each(|share| save(share, &share.path(&whole), true, Float::F16));
    merge(&whole).unwrap();
    let one = folder.path().join("one");
    save(Shard::WHOLE, &one, false, Float::F16);
    let bytes = std::fs::read(&whole).unwrap();
    assert_eq!(bytes, std::fs::read(one).unwrap());
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let scale = tensors.tensor("logit_scale").unwrap();
    assert_eq!(scale.data(), 14f32.to_le_bytes());
    let head = scale.data().as_ptr() as usize - bytes.as_ptr() as usize;
    assert!(head.is_multiple_of(4));
    let rows = crate::Features::open(&whole, "text_features").unwrap();
    assert_eq!(rows.to_vec()[..4], [0.0, -1.0, 1.0, -1.0]);

    save(
        shares(3).last().unwrap(),
        &shares(3).last().unwrap().path(&whole),
        true,
        Float::F32,
    );
    let message = merge(&whole).unwrap_err().to_string();
    assert!(message.contains("dtype"), "{message}");

    let mut large = embedded(Shard::WHOLE).0;
    large.images[0] = 1e6;
    large.float = Float::F16;
    let message = large.save(&whole, None).unwrap_err().to_string();
    assert!(message.contains("f32"), "{message}");
}

#[test]
fn a_share_that_is_there_is_found_unless_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let share = Shard::new(0, 2).unwrap();
    let path = share.path(&folder.path().join("e.safetensors"));
    let find = |work: &Work| ShareNote::find(&path, share, work);
    assert_eq!(find(&work()).unwrap(), None);
    save(folder.path(), share, &work());
    let there = find(&work()).unwrap().unwrap();
    assert_eq!(there.left_out(), ["i5: no image"]);
    let mut other = work();
    other.options.insert("precision".into(), "bf16".into());
    other.batch_size = 4;
    let message = find(&other).unwrap_err().to_string();
    for word in [
        "e.shard-0-of-2",
        "precision f32, not bf16",
        "batch_size 3, not 4",
        "overwrite",
    ] {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 5, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert_eq!(find(&work()).unwrap(), None, "cut to {len} bytes");
    }
}

#[test]
fn a_share_whose_note_or_names_do_not_fit_its_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("e.safetensors");
    let refused = |said: &str| {
        let message = merge(&whole).unwrap_err().to_string();
        assert!(
            message.contains("e.shard-0-of-1") && message.contains(said),
            "{message}"
        );
        assert!(!whole.exists());
    };
    let (mut made, left_out) = embedded(Shard::WHOLE);
    let note = ShareNote::new(Shard::WHOLE, &work(), left_out);
    let path = Shard::WHOLE.path(&whole);
    made.texts.pop();
    made.save(&path, Some(&note)).unwrap();
    refused("6 names for 7 rows");
    made.texts.push("t6".into());
    made.save(&path, Some(&note)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let at = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let head = String::from_utf8(bytes[8..at].to_vec()).unwrap();
    let head = head.replace("batch_size\\\":3", "batch_size\\\":0");
    std::fs::write(&path, [&bytes[..8], head.as_bytes(), &bytes[at..]].concat()).unwrap();
    refused("batch_size");
}

#[test]
fn shares_of_which_some_name_their_rows_are_not_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("e.safetensors");
    shares(2).for_each(|share| save(folder.path(), share, &work()));
    let share = Shard::new(0, 2).unwrap();
    let (mut made, left_out) = embedded(share);
    made.image_paths.clear();
    let note = ShareNote::new(share, &work(), left_out);
    made.save(&share.path(&whole), Some(&note)).unwrap();
    let message = merge(&whole).unwrap_err().to_string();
    assert!(
        message.contains("e.safetensors") && message.contains("for 19 rows of images"),
        "{message}"
    );
    assert!(!whole.exists());
}

#[test]
fn gaps_doubles_and_foreign_shares_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("e.safetensors");
    let refused = |said: &[&str]| {
        let message = merge(&whole).unwrap_err().to_string();
        assert!(said.iter().all(|word| message.contains(word)), "{message}");
        assert!(!whole.exists());
    };
    refused(&["no shares"]);
    let all: Vec<_> = shares(4).collect();
    let path = |index: usize| all[index].path(&whole);
    all.iter()
        .for_each(|share| save(folder.path(), *share, &work()));
    std::fs::rename(path(2), folder.path().join("aside")).unwrap();
    refused(&[
        "1 of 4 shares are missing: ",
        "e.shard-2-of-4.safetensors (--shard 2/4)",
    ]);
    std::fs::copy(path(1), path(2)).unwrap();
    refused(&["e.shard-1-of-4", "e.shard-2-of-4", "both hold share 1/4"]);
    let other = |change: &dyn Fn(&mut Work)| {
        let mut other = work();
        change(&mut other);
        save(folder.path(), all[2], &other);
    };
    other(&|work| work.model = "xyz".into());
    refused(&[
        "e.shard-2-of-4",
        "go together with",
        "e.shard-0-of-4",
        "another model (xyz, not abc)",
    ]);
    other(&|work| work.list = list_digest(["i0"], &[], ["t0"]));
    refused(&["e.shard-2-of-4", "another list (20 images and 7 texts"]);
    std::fs::rename(folder.path().join("aside"), path(2)).unwrap();
    save(folder.path(), Shard::WHOLE, &work());
    refused(&[
        "e.shard-0-of-1.safetensors is one of 1",
        "e.shard-0-of-4.safetensors one of 4",
    ]);
    std::fs::remove_file(Shard::WHOLE.path(&whole)).unwrap();
    merge(&whole).unwrap();
    let bytes = std::fs::read(path(3)).unwrap();
    std::fs::write(path(3), &bytes[..bytes.len() - 1]).unwrap();
    std::fs::remove_file(&whole).unwrap();
    refused(&["e.shard-3-of-4", "not whole", "again"]);
}

#[test]
fn lists_that_differ_anywhere_have_other_digests() {
    let digests = [
        list_digest(["a", "b"], &[], []),
        list_digest(["ab"], &[], []),
        list_digest(["b", "a"], &[], []),
        list_digest(["a"], &[], ["b"]),
        list_digest(["a"], &[1.0], ["b"]),
        list_digest(["a"], &[-1.0], ["b"]),
    ];
    for (i, digest) in digests.iter().enumerate() {
        assert!(!digests[..i].contains(digest), "{i}");
    }
}

/// An encoder whose rows are the sum of their batch and its size: the worst that a kernel can do.
struct Neighbours(Preprocess);

impl TextEncoder<Flex> for Neighbours {
    fn embed_dim(&self) -> usize {
        2
    }

    fn text_embeddings(&self, texts: &[String]) -> crate::Result<Tensor<Flex, 2>> {
        let bytes: usize = texts.iter().map(String::len).sum();
        Ok(rows(bytes as f32, texts.len()))
    }
}

impl DualEncoder<Flex> for Neighbours {
    fn preprocess(&self) -> &Preprocess {
        &self.0
    }

    fn image_embeddings(&self, images: Tensor<Flex, 4>) -> Tensor<Flex, 2> {
        let n = images.dims()[0];
        rows(images.sum().into_scalar(), n)
    }
}

fn rows(sum: f32, n: usize) -> Tensor<Flex, 2> {
    let values = [sum, n as f32].repeat(n);
    Tensor::from_data(TensorData::new(values, [n, 2]), &Default::default())
}

#[test]
fn every_row_has_the_neighbours_in_its_batch_that_it_has_in_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = |i: u8| {
        let path = folder.path().join(format!("{i}.png"));
        match i {
            5 => std::fs::write(&path, "no image").unwrap(),
            _ => RgbImage::from_pixel(8, 8, image::Rgb([10 * i; 3]))
                .save(&path)
                .unwrap(),
        }
        ImageRef::File(path)
    };
    let images: Vec<_> = (0..20).map(file).collect();
    let texts: Vec<String> = (0..7).map(|i| "x".repeat(i * i)).collect();
    let size = PreprocessConfig {
        size: [8, 8],
        ..PreprocessConfig::default()
    };
    let encoder = Neighbours(Preprocess::new(size));
    let options = Extraction {
        batch_size: BATCH,
        max_bad: 1,
        progress: false,
        ..Extraction::default()
    };
    let embed = |share: Shard| {
        let (images, texts) = (
            &images[work().images_of(share)],
            &texts[work().texts_of(share)],
        );
        let images = image_features(&encoder, images, &options, &Default::default()).unwrap();
        let texts = text_features(&encoder, texts, &options).unwrap();
        (images.features.to_vec(), texts.to_vec())
    };
    let whole = embed(Shard::WHOLE);
    assert_eq!(whole.0.len(), 2 * 19);
    for of in [2, 3, 4, 11] {
        let (images, texts): (Vec<_>, Vec<_>) = shares(of).map(embed).unzip();
        assert_eq!((images.concat(), texts.concat()), whole, "{of} shares");
    }
}
