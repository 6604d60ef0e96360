//! Directories of CLIP models that transformers saved: its pixels, its ids, its features.

use burn::prelude::*;
use burn_flex::Flex;
use clip::checkpoint::{HostTensor, StateDict, read_state_dict};
use clip::{LoadOptions, Pretrained};
use std::path::{Path, PathBuf};

fn values(tensor: &HostTensor) -> Vec<f32> {
    tensor.values()
}

fn host<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

#[track_caller]
fn largest_gap(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let gaps = got.iter().zip(want).map(|(a, b)| (a - b).abs());
    gaps.fold(0.0, f32::max)
}

fn expected(folder: &Path) -> StateDict {
    read_state_dict(&folder.join("expected.safetensors")).unwrap()
}

/// Pixels of the slow (Pillow) processor to rounding and of the fast one to a level, ids, and features of the same pixels
/// and ids.
fn check(folder: &Path) {
    let name = folder.file_name().unwrap().to_string_lossy();
    let device = Default::default();
    let options = LoadOptions::default();
    let clip = Pretrained::<Flex>::from_dir(folder, &options, &device).unwrap();
    let expected = expected(folder);
    let tensor = |name: &str| expected.get(name).unwrap();

    let mut paths: Vec<PathBuf> = folder
        .join("images")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let (pixels, read) = clip.preprocess.load_batch(&paths);
    assert!(read.iter().all(|read| read.is_ok()), "{name}");
    let config = clip.preprocess.config().clone();
    let pixels = pixels.to_tensor::<Flex>(&config, &device);
    let slow = values(tensor("slow"));
    let of_slow = largest_gap(&host(pixels.clone()), &slow);
    let largest = slow.iter().fold(1f32, |largest, x| largest.max(x.abs()));
    assert!(
        of_slow < 1e-6 * largest,
        "{name}: {of_slow} from the slow processor"
    );
    let fast = expected.get("fast").map(|fast| {
        let level = config.std.iter().map(|std| 1.0 / 255.0 / std);
        let level = level.fold(0f32, f32::max) * 1.01;
        let (got, fast) = (host(pixels.clone()), values(fast));
        let image = got.len() / paths.len();
        let images = got.chunks(image).zip(fast.chunks(image));
        let within = images
            .clone()
            .filter(|(got, fast)| largest_gap(got, fast) <= level);
        let gaps = images.map(|(got, fast)| {
            let sum: f32 = got.iter().zip(fast).map(|(a, b)| (a - b).abs()).sum();
            sum / image as f32
        });
        // torchvision resizes some widths to other values than Pillow; a crop elsewhere would be many levels off on average.
        let mean = gaps.fold(0.0, f32::max) / level;
        assert!(mean < 0.5, "{name}: {mean} levels from the fast processor");
        (within.count(), mean)
    });

    let texts = std::fs::read_to_string(folder.join("texts.json")).unwrap();
    let texts: Vec<String> = serde_json::from_str(&texts).unwrap();
    let ids = clip.tokenizer.batch(&texts).unwrap();
    let want = values(tensor("ids"));
    let rows = ids
        .ids
        .chunks(ids.context_length)
        .zip(want.chunks(ids.context_length));
    for ((got, want), text) in rows.zip(&texts) {
        let want: Vec<i32> = want.iter().map(|id| *id as i32).collect();
        assert_eq!(got, want, "{name}: {text:?}");
    }

    let of_images = largest_gap(
        &host(clip.model.encode_image(pixels)),
        &values(tensor("image_features")),
    );
    let mut text_features = Vec::new();
    for texts in texts.chunks(256) {
        let ids = clip.tokenizer.batch(texts).unwrap().to_tensor(&device);
        text_features.extend(host(clip.model.encode_text(ids)));
    }
    let of_texts = largest_gap(&text_features, &values(tensor("text_features")));
    println!(
        "{name}: pixels {of_slow:.1e} from the slow processor; {fast:.2?} of {} images within a \
         level of the fast one, and its largest mean; ids of {} texts equal; features \
         {of_images:.1e} of images, {of_texts:.1e} of texts",
        paths.len(),
        texts.len()
    );
    assert!(of_images < 1e-5 && of_texts < 1e-5, "{name}");
}

#[test]
#[ignore = "reads folders that tests/reference/transformers_clip.py writes: CLIP_TRANSFORMERS=FOLDER"]
fn directories_are_used_as_transformers_uses_them() {
    let folder = std::env::var_os("CLIP_TRANSFORMERS").expect("CLIP_TRANSFORMERS names the folder");
    let mut folders: Vec<PathBuf> = Path::new(&folder)
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders.iter().for_each(|folder| check(folder));
}
