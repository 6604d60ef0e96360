//! How much do a model's features tell about a folder of images? Accuracy against training images per class.
//!
//! `cargo run --bin probe -- [MODEL] [FOLDER]`: a model as clip-burn's commands take it, default `tiny` (random
//! weights), and a folder with a folder of images per class; without one, scenes are drawn into `scenes`.

use anyhow::{Context, Result};
use burn::backend::Flex;
use clip_burn::clip::LoadOptions;
use clip_burn::data::scenes::write::{ImageFormat, write_imagenet};
use clip_burn::data::scenes::{Scenes, ScenesConfig, Split};
use clip_burn::eval::datasets::{Labels, image_folder};
use clip_burn::eval::probe::{Labelled, NearestOptions, ProbeOptions, linear_probe, nearest_probe};
use clip_burn::eval::{Extraction, extract::image_features};
use clip_burn::models::Model;
use my_experiments::chart;
use std::path::{Path, PathBuf};

/// Training images per class. Each class needs twice the most of them, and one more.
const SHOTS: [usize; 5] = [1, 2, 4, 8, 16];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "tiny".into());
    let folder = arguments
        .next()
        .map_or_else(scenes, |folder| Ok(folder.into()))?;

    // Features of all images, a row each. Labels are the folders in the order of their names.
    let device = Default::default();
    let model = Model::<Flex>::load(&name, &LoadOptions::default(), &device)?;
    let data = image_folder("mine", &folder, "")?;
    let images = image_features(&model, &data.images, &Extraction::default(), &device)?;
    let Labels::Single(labels) = data.labels.select(&images.kept) else {
        unreachable!("a folder is one class");
    };
    let classes = data.labels.classes();

    // Every second image is for testing.
    let all = Labelled {
        features: images.features,
        labels,
    };
    let half = |first: usize| -> Vec<usize> { (first..all.labels.len()).step_by(2).collect() };
    let (train, test) = (all.select(&half(0)), all.select(&half(1)));
    println!(
        "{name}: {} images, {classes} classes, chance {:.1} %",
        all.labels.len(),
        100.0 / classes as f64
    );

    let (mut linear, mut nearest) = (Vec::new(), Vec::new());
    for shots in SHOTS {
        let options = ProbeOptions {
            fewshot_k: Some(shots),
            epochs: 50,
            ..Default::default()
        };
        let probed = linear_probe::<Flex>(&train, None, &test, &options, &device)?;
        linear.push(100.0 * probed.metrics["lp_acc1"].as_f64().context("no accuracy")?);
        let options = NearestOptions {
            fewshot_k: Some(shots),
            ..Default::default()
        };
        let voted = nearest_probe(&train, &test, &options)?;
        nearest.push(100.0 * voted.metrics["knn_acc1"].as_f64().context("no accuracy")?);
        let at = linear.len() - 1;
        println!(
            "{shots} per class: linear {:.1} %, nearest {:.1} %",
            linear[at], nearest[at]
        );
    }
    let lines = [("linear", linear), ("nearest", nearest)];
    std::fs::write("shots.svg", chart(&SHOTS, &lines)).context("shots.svg")?;
    println!("shots.svg");
    Ok(())
}

/// 480 images of 12 classes, drawn once.
fn scenes() -> Result<PathBuf> {
    let folder = Path::new("scenes");
    if !folder.exists() {
        let config = ScenesConfig {
            shapes: 4,
            colours: 3,
            max_objects: 1,
            test_size: 480,
            ..Default::default()
        };
        write_imagenet(&Scenes::new(config)?, Split::Test, folder, ImageFormat::Png)?;
    }
    Ok(folder.join("images"))
}
