//! A small random model on the built-in captioned world, through the formats of the real data sets.

use std::path::Path;

use burn::backend::Flex;
use clip::{LoadOptions, Pretrained};
use data::scenes::write::{ImageFormat, write_imagenet, write_karpathy};
use data::scenes::{Scenes, ScenesConfig, Split};
use eval::datasets::retrieval::{RetrievalOptions, retrieval};
use eval::datasets::{ClassificationData, classification};
use eval::probe::{FeatureCache, ProbeOptions, linear_probe};
use eval::prompts::{PromptSources, Prompts};
use eval::results::load_all;
use eval::{Extraction, report, tasks};

const CLASSES: usize = 6;

fn world() -> Scenes {
    let config = ScenesConfig {
        image_size: 32,
        train_size: CLASSES * 50,
        test_size: CLASSES * 10,
        shapes: 2,
        colours: 3,
        max_objects: 1,
        max_distractors: 0,
        ..ScenesConfig::default()
    };
    Scenes::new(config).unwrap()
}

fn model() -> Pretrained<Flex> {
    Pretrained::load("tiny", &LoadOptions::default(), &Default::default()).unwrap()
}

fn folder(root: &Path, split: &str) -> ClassificationData {
    classification("folder/scenes", root, &format!("{split}/images")).unwrap()
}

#[test]
fn a_linear_probe_on_random_features_beats_zero_shot() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for split in [Split::Train, Split::Test] {
        write_imagenet(&world(), split, &root.join(split.name()), ImageFormat::Png).unwrap();
    }
    let (model, device) = (model(), Default::default());
    let (train, test) = (folder(root, "train"), folder(root, "test"));
    let options = Extraction::default();
    let names = root.join("test/classnames.txt");
    let sources = PromptSources {
        class_file: Some(&names),
        templates: Some("simple"),
        ..PromptSources::default()
    };
    let prompts = Prompts::find(&test.name, "en", &sources).unwrap();
    assert_eq!(prompts.classes.len(), CLASSES);
    let zero_shot =
        tasks::zero_shot::zero_shot(&model, &test, &prompts, &options, &device).unwrap();

    let cache = FeatureCache {
        dir: root.join("features"),
        model: "tiny 0".into(),
    };
    let features = |data| cache.features(&model, data, &options, &device).unwrap().0;
    let (train, test) = (features(&train), features(&test));
    let long = ProbeOptions {
        epochs: 100,
        ..ProbeOptions::default()
    };
    let probe = linear_probe::<Flex>(&train, None, &test, &long, &device).unwrap();
    let accuracy = |name: &str, outcome: &tasks::Outcome| outcome.metrics[name].as_f64().unwrap();
    let (zero_shot, probe) = (accuracy("acc1", &zero_shot), accuracy("lp_acc1", &probe));
    assert!(
        probe > zero_shot + 0.1,
        "zero-shot {zero_shot}, probe {probe}"
    );
}

/// Share of captions whose image is among the `k` best, from the annotations, the model's own calls and loops.
fn recall_by_hand(folder: &Path, k: usize) -> f64 {
    let (model, device) = (model(), Default::default());
    let annotations = std::fs::read(folder.join("dataset_scenes.json")).unwrap();
    let annotations: serde_json::Value = serde_json::from_slice(&annotations).unwrap();
    let mut images = Vec::new();
    let mut captions = Vec::new();
    for (image, entry) in annotations["images"].as_array().unwrap().iter().enumerate() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        images.push(
            folder
                .join("images")
                .join(text("filepath"))
                .join(text("filename")),
        );
        for sentence in entry["sentences"].as_array().unwrap() {
            captions.push((image, sentence["raw"].as_str().unwrap().to_owned()));
        }
    }
    let (pixels, _) = model.preprocess.load_batch(&images);
    let pixels = pixels.to_tensor(model.preprocess.config(), &device);
    let texts: Vec<&String> = captions.iter().map(|(_, text)| text).collect();
    let ids = model.tokenizer.batch(&texts).unwrap();
    let rows = |embeddings: burn::Tensor<Flex, 2>| {
        let embeddings = clip::nn::l2_normalize(embeddings);
        let width = embeddings.dims()[1];
        let values = embeddings.into_data().to_vec::<f32>().unwrap();
        values
            .chunks(width)
            .map(<[f32]>::to_vec)
            .collect::<Vec<_>>()
    };
    let images = rows(model.model.encode_image(pixels));
    let texts = rows(model.model.encode_text(ids.to_tensor(&device)));
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let found = captions.iter().zip(&texts).filter(|((right, _), text)| {
        let score = cosine(&images[*right], text);
        images
            .iter()
            .filter(|image| cosine(image, text) > score)
            .count()
            < k
    });
    found.count() as f64 / captions.len() as f64
}

#[test]
fn a_karpathy_set_is_retrieved_and_the_report_shows_its_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write_karpathy(
        &world(),
        Split::Test,
        &root.join("karpathy"),
        ImageFormat::Png,
    )
    .unwrap();
    let data = retrieval(
        "karpathy",
        &root.join("karpathy/dataset_scenes.json"),
        &root.join("karpathy/images"),
        &RetrievalOptions::default(),
    )
    .unwrap();
    assert_eq!(
        (data.images.len(), data.texts.len()),
        (CLASSES * 10, CLASSES * 50)
    );
    let device = Default::default();
    let options = Extraction::default();
    let outcome =
        tasks::retrieval::retrieval(&model(), &data, &[1, 5, 10, 60], &options, &device).unwrap();
    let recall = |k: usize| {
        outcome.metrics[&format!("image_retrieval_recall@{k}")]
            .as_f64()
            .unwrap()
    };
    for k in [1, 5, 10, 60] {
        assert_eq!(
            recall(k),
            recall_by_hand(&root.join("karpathy"), k),
            "recall@{k}"
        );
    }

    let result = outcome.named("scenes", "tiny", "random", "en");
    result.save(&root.join("results/scenes.json")).unwrap();
    let (results, skipped) = load_all(&[root.join("results")]).unwrap();
    assert_eq!(
        (&results[0].details, &results[0].dataset),
        (&result.details, &result.dataset)
    );
    let page = root.join("report.html");
    report::save_report(&results, &skipped, &report::Pictures::All, &page).unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.matches("data:image/jpeg;base64,").count() >= 40 && !page.contains("cannot be shown")
    );
}
