//! `embed`: what it writes.

use crate::command::{Folder, words};
use crate::features::{Features, assert_close};
use clip_burn::clip::checkpoint::{HostTensor, StateDict, write_safetensors};
use clip_burn::clip::preprocess::{Preprocess, PreprocessConfig, open};

#[test]
fn features_shapes_and_metadata() {
    let folder = Folder::new();
    folder.image("b.png", [40, 50], 1);
    folder.image("a.jpg", [64, 33], 2);
    folder.write("texts.txt", "a cat\r\nein großer Hund 🐕\n");
    let line = "--model tiny --images b.png a.jpg --texts texts.txt --out out.safetensors";
    let outcome = folder.run("embed", &words(line)).succeeded();
    assert!(
        outcome.stderr.contains("backend flex, f32"),
        "{}",
        outcome.stderr
    );

    let features = Features::read(&folder.path("out.safetensors"));
    assert_eq!(
        features.shapes(),
        [
            ("image_features", &[2, 32][..]),
            ("logit_scale", &[1]),
            ("text_features", &[2, 32]),
        ]
    );
    assert_eq!(features.list("image_paths"), ["b.png", "a.jpg"]);
    assert_eq!(features.list("texts"), ["a cat", "ein großer Hund 🐕"]);
    assert_close(
        "scale",
        &features.values("logit_scale"),
        &[1.0 / 0.07],
        1e-4,
    );
    for name in ["image_features", "text_features"] {
        let rows = features.rows(name);
        for row in &rows {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert_close("norm", &[norm], &[1.0], 1e-5);
        }
        assert_ne!(rows[0], rows[1]);
    }
}

#[test]
fn the_seed_decides_and_no_normalize_keeps_the_length() {
    let folder = Folder::new();
    folder.image("a.png", [32, 32], 1);
    let run = |more: &str| {
        let line = format!("--model tiny --images a.png --out out {more}");
        folder.run("embed", &words(&line)).succeeded();
        Features::read(&folder.path("out")).values("image_features")
    };
    let unit = run("");
    assert_eq!(unit, run("--seed 0"));
    assert_ne!(unit, run("--seed 1"));
    let long = run("--no-normalize");
    let norm = long.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((norm - 1.0).abs() > 1e-3, "{norm}");
    let scaled: Vec<f32> = long.iter().map(|x| x / norm).collect();
    assert_close("normalized by hand", &scaled, &unit, 1e-6);
}

#[test]
fn directories_are_walked_in_order_and_lists_are_relative_to_themselves() {
    let folder = Folder::new();
    for (seed, name) in ["p/b.PNG", "p/c/a.jpg", "p/a.bmp", "p/d.jpeg"]
        .iter()
        .enumerate()
    {
        folder.image(name, [32, 32], seed as u32);
    }
    folder.write("p/notes.md", "no image");
    folder.write("p/list.txt", "d.jpeg\n\na.bmp\n");
    let paths = |images: &str| {
        let line = format!("--model tiny --images {images} --out out --batch-size 3");
        folder.run("embed", &words(&line)).succeeded();
        Features::read(&folder.path("out"))
    };
    let walked = paths("p");
    assert_eq!(
        walked.list("image_paths"),
        ["p/a.bmp", "p/b.PNG", "p/c/a.jpg", "p/d.jpeg"]
    );
    let listed = paths("p/list.txt p/b.PNG");
    assert_eq!(
        listed.list("image_paths"),
        ["p/d.jpeg", "p/a.bmp", "p/b.PNG"]
    );
    let (walked, listed) = (walked.rows("image_features"), listed.rows("image_features"));
    for (listed, walked) in listed.iter().zip([&walked[3], &walked[0], &walked[1]]) {
        assert_close("same image, other batch", listed, walked, 1e-6);
    }
}

#[test]
fn pixels_take_the_place_of_images() {
    let folder = Folder::new();
    let paths = [
        folder.image("a.png", [40, 60], 1),
        folder.image("b.png", [70, 32], 2),
    ];
    let config = PreprocessConfig {
        size: [32, 32],
        ..PreprocessConfig::default()
    };
    let preprocess = Preprocess::new(config.clone());
    let mut values = Vec::new();
    for path in &paths {
        let image = preprocess.apply(&open(path).unwrap());
        for channel in 0..3 {
            values.extend(image.pixels().map(|pixel| {
                let level = f32::from(pixel.0[channel]) / 255.0;
                (level - config.mean[channel]) / config.std[channel]
            }));
        }
    }
    let mut dict = StateDict::default();
    dict.insert("pixels", HostTensor::from_values(values, [2, 3, 32, 32]));
    write_safetensors(&folder.path("pixels.safetensors"), &dict).unwrap();

    let run = |images: &str| {
        let line = format!("--model tiny {images} --out out");
        folder.run("embed", &words(&line)).succeeded();
        Features::read(&folder.path("out")).values("image_features")
    };
    assert_close(
        "pixels",
        &run("--pixels pixels.safetensors"),
        &run("--images a.png b.png"),
        2e-6,
    );
}
