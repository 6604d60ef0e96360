//! From files on disk to results, with an encoder that sees nothing but colour.

use std::path::Path;

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use clip::preprocess::{Preprocess, PreprocessConfig, RgbImage};
use eval::datasets::retrieval::{RetrievalOptions, retrieval};
use eval::datasets::{ClassificationData, classification};
use eval::features::{IMAGE_FEATURES, TEXT_FEATURES, save};
use eval::probe::{FeatureCache, ProbeOptions, linear_probe};
use eval::prompts::{PromptSources, Prompts};
use eval::{DualEncoder, EvalError, Extraction, Features, TextEncoder, tasks};

const COLOURS: [(&str, [u8; 3]); 3] = [
    ("red", [250, 5, 5]),
    ("green", [5, 250, 5]),
    ("blue", [5, 5, 250]),
];

/// Images are their mean colour, texts the colours that they name.
struct Colours {
    preprocess: Preprocess,
}

impl Colours {
    fn new() -> Self {
        let config = PreprocessConfig {
            size: [8, 8],
            mean: [0.0; 3],
            std: [1.0; 3],
            ..PreprocessConfig::default()
        };
        Self {
            preprocess: Preprocess::new(config),
        }
    }
}

impl TextEncoder<Flex> for Colours {
    fn embed_dim(&self) -> usize {
        3
    }

    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<Flex, 2>, EvalError> {
        let named = |text: &String| COLOURS.map(|(name, _)| f32::from(text.contains(name)) + 0.01);
        let values: Vec<f32> = texts.iter().flat_map(named).collect();
        Ok(Tensor::from_data(
            TensorData::new(values, [texts.len(), 3]),
            &Default::default(),
        ))
    }
}

impl DualEncoder<Flex> for Colours {
    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn image_embeddings(&self, images: Tensor<Flex, 4>) -> Tensor<Flex, 2> {
        let n = images.dims()[0];
        images.mean_dim(3).mean_dim(2).reshape([n, 3])
    }
}

/// `root/SPLIT/COLOUR/*.png`, a few shades each.
fn write_images(root: &Path, split: &str, per: u8) {
    for (name, colour) in COLOURS {
        let dir = root.join(split).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        for shade in 0..per {
            let colour = image::Rgb(colour.map(|c| c.saturating_add(shade * 20)));
            RgbImage::from_pixel(20, 12, colour)
                .save(dir.join(format!("{shade}.png")))
                .unwrap();
        }
    }
}

fn prompts(data: &ClassificationData) -> Prompts {
    let sources = PromptSources {
        own_classes: data.classes.as_deref(),
        ..PromptSources::default()
    };
    Prompts::find(&data.name, "en", &sources).unwrap()
}

#[test]
fn a_folder_is_classified_and_a_broken_image_is_skipped_counted_and_named() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), "val", 3);
    let broken = dir.path().join("val/green/1.png");
    let run = |batch_size, max_bad| {
        let data = classification("folder", dir.path(), "val").unwrap();
        let options = Extraction {
            batch_size,
            max_bad,
            ..Extraction::default()
        };
        let device = Default::default();
        tasks::zero_shot::zero_shot(&Colours::new(), &data, &prompts(&data), &options, &device)
    };
    let whole = run(2, 0).unwrap();
    assert_eq!(
        (whole.metrics["acc1"].as_f64(), whole.details.images),
        (Some(1.0), 9)
    );
    assert_eq!(
        whole,
        run(100, 0).unwrap(),
        "the batch size changes nothing"
    );

    std::fs::write(&broken, b"no image").unwrap();
    let error = run(2, 0).unwrap_err().to_string();
    assert!(
        error.contains("1 of 9") && error.contains("1.png"),
        "{error}"
    );
    let rest = run(2, 1).unwrap();
    assert_eq!(
        (rest.metrics["acc1"].as_f64(), rest.details.images),
        (Some(1.0), 8)
    );
    assert!(rest.details.bad_images[0].reason.contains("1.png"));
    std::fs::remove_file(&broken).unwrap();
    assert_eq!(
        run(2, 0).unwrap().details.images,
        8,
        "a file that is gone is not in the folder"
    );
}

#[test]
fn a_missing_image_takes_its_captions_out_and_stored_embeddings_give_the_same() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), "i", 1);
    let lines = COLOURS.map(|(name, _)| {
        format!(
            r#"{{"image": "i/{name}/0.png", "caption": ["a {name} thing", "something {name}"]}}"#
        )
    });
    let missing = r#"{"image": "i/gone.png", "caption": "gone"}"#;
    let annotations = dir.path().join("a.jsonl");
    std::fs::write(&annotations, format!("{missing}\n{}", lines.join("\n"))).unwrap();
    let options = RetrievalOptions::default();
    let data = retrieval("jsonl", &annotations, dir.path(), &options).unwrap();
    let (encoder, device) = (Colours::new(), Default::default());
    let strict = Extraction::default();
    let error = tasks::retrieval::retrieval(&encoder, &data, &[1], &strict, &device).unwrap_err();
    assert!(error.to_string().contains("gone.png"), "{error}");
    let lenient = Extraction {
        max_bad: 1,
        ..strict.clone()
    };
    let got = tasks::retrieval::retrieval(&encoder, &data, &[1], &lenient, &device).unwrap();
    assert_eq!((got.details.images, got.details.texts), (3, 6));
    assert_eq!(got.metrics["image_retrieval_recall@1"].as_f64(), Some(1.0));
    assert!(got.details.queries.iter().all(|q| q.hits[0].right));

    std::fs::write(&annotations, lines.join("\n")).unwrap();
    let data = retrieval("jsonl", &annotations, dir.path(), &options).unwrap();
    let images = eval::extract::image_features(&encoder, &data.images, &strict, &device).unwrap();
    let texts = eval::extract::text_features(&encoder, &data.texts, &strict).unwrap();
    let file = dir.path().join("f.safetensors");
    save(
        &file,
        &[(IMAGE_FEATURES, &images.features), (TEXT_FEATURES, &texts)],
    )
    .unwrap();
    let stored = tasks::retrieval::retrieval_of_features(
        &data,
        &Features::open(&file, IMAGE_FEATURES).unwrap(),
        &Features::open(&file, TEXT_FEATURES).unwrap(),
        &[1],
        &strict,
    )
    .unwrap();
    assert_eq!(stored.metrics, got.metrics);
}

#[test]
fn embeddings_for_a_probe_are_computed_once() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), "train", 4);
    write_images(dir.path(), "test", 2);
    let (encoder, device) = (Colours::new(), Default::default());
    let cache = FeatureCache {
        dir: dir.path().join("features"),
        model: "colours".into(),
    };
    let features = |split: &str| {
        let data = classification("folder", dir.path(), split).unwrap();
        cache
            .features(&encoder, &data, &Extraction::default(), &device)
            .unwrap()
            .0
    };
    let (train, test) = (features("train"), features("test"));
    let options = ProbeOptions {
        fewshot_k: Some(2),
        ..ProbeOptions::default()
    };
    let outcome = linear_probe::<Flex>(&train, None, &test, &options, &device).unwrap();
    assert_eq!(outcome.metrics["lp_acc1"].as_f64(), Some(1.0));
    assert_eq!(outcome.metrics["fewshot_k"].as_i64(), Some(2));

    let entries = || std::fs::read_dir(&cache.dir).unwrap().count();
    assert_eq!(entries(), 4);
    assert_eq!(features("train").features.to_vec(), train.features.to_vec());
    assert_eq!(entries(), 4);
    // Another image under the same name is another data set.
    let larger = RgbImage::from_pixel(200, 200, image::Rgb([9, 99, 200]));
    larger.save(dir.path().join("train/red/0.png")).unwrap();
    features("train");
    assert_eq!(entries(), 6);
}
