//! ResNets as directories, and their towers alone. That they compute what open_clip's do is in `tests/parity`.

use burn::prelude::*;
use burn_flex::Flex;
use clip::{LoadOptions, ModelConfig, Pretrained, VisionOptions, VisionTower};
use serde_json::json;

/// A tiny one with random weights, saved.
fn saved() -> (Pretrained<Flex>, tempfile::TempDir, String) {
    let config = json!({
        "embed_dim": 6, "quick_gelu": true,
        "vision_cfg": {"layers": [1, 2, 1, 1], "width": 2, "head_width": 16, "image_size": 64, "patch_size": null},
        "text_cfg": {"width": 8, "heads": 2, "layers": 1},
    });
    let config = ModelConfig::from_json(&config).unwrap();
    let options = LoadOptions::default();
    let model = Pretrained::random(config, &options, &Default::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.save(&path).unwrap();
    (model, folder, path.to_str().unwrap().into())
}

fn image() -> Tensor<Flex, 4> {
    let values = Tensor::<Flex, 1, Int>::arange(0..3 * 64 * 64, &Default::default());
    values.float().sin().reshape([1, 3, 64, 64])
}

#[test]
fn what_is_saved_loads_and_gives_the_same_embedding() {
    let (model, _folder, path) = saved();
    let loaded =
        Pretrained::<Flex>::load(&path, &LoadOptions::default(), &Default::default()).unwrap();
    assert_eq!(loaded.config, model.config);
    let embedding = |of: &Pretrained<Flex>| of.model.encode_image(image()).into_data();
    assert_eq!(embedding(&loaded), embedding(&model));
    assert_eq!(loaded.model.visual.tokens(image()).dims(), [1, 4, 64]);
}

#[test]
fn a_new_tower_starts_with_bottlenecks_that_do_nothing() {
    let (model, _folder, _) = saved();
    let resnet = model.model.visual.as_resnet().unwrap();
    let x = resnet.layer1[0].forward(resnet.embed(image()));
    let after = resnet.layer2[0].forward(x);
    let same = resnet.layer2[1].forward(after.clone());
    assert_eq!(same.into_data(), after.into_data()); // no shortcut of its own, and the input is not negative
}

#[test]
fn another_image_size_is_refused_as_open_clip_cannot_resize_the_positions() {
    let (_, _folder, path) = saved();
    let options = |side| LoadOptions {
        image_size: Some([side; 2]),
        ..LoadOptions::default()
    };
    let load = |side| Pretrained::<Flex>::load(&path, &options(side), &Default::default());
    let message = load(96).unwrap_err().to_string();
    assert!(message.contains("64 × 64 pixels, not 96 × 96"), "{message}");
    assert!(load(64).is_ok());
}

#[test]
fn a_new_head_has_the_wanted_dimension() {
    let (_, _folder, path) = saved();
    let options = VisionOptions {
        head: Some(10),
        ..VisionOptions::default()
    };
    let loaded = VisionTower::<Flex>::load(&path, &options, &Default::default()).unwrap();
    assert_eq!(loaded.tower.forward(image()).dims(), [1, 10]);
    assert_eq!(loaded.config.embed_dim, 10);
}
