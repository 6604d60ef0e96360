//! Data sets as they are published, and collections of them.

use super::{eval, json, metric};
use crate::command::Folder;

/// Four images of the classes 0 to 3, in CIFAR-10's binary form.
fn cifar10(folder: &Folder) {
    let images = (0..4u8).flat_map(|label| {
        let pixels = (0..3 * 32 * 32).map(move |i| ((i * (usize::from(label) + 2)) % 251) as u8);
        std::iter::once(label).chain(pixels)
    });
    let images: Vec<u8> = images.collect();
    folder.write("data/cifar-10-batches-bin/test_batch.bin", images);
    let names: String = (0..10).map(|class| format!("thing {class}\n")).collect();
    folder.write("data/cifar-10-batches-bin/batches.meta.txt", names);
}

#[test]
fn a_published_set_is_scored_with_its_own_names_and_templates() {
    let folder = Folder::new();
    cifar10(&folder);
    let line =
        "zero-shot --model tiny --dataset cifar10 --root data --dump-prompts --output c.json";
    eval(&folder, line).succeeded();
    let result = json(&folder, "c.json");
    assert_eq!(result["dataset"], "cifar10");
    assert_eq!(result["details"]["images"], 4);
    assert_eq!(result["classnames"][3], "thing 3");
    // CLIP_benchmark's for CIFAR-10, and not ImageNet's 80.
    assert_eq!(result["templates"].as_array().unwrap().len(), 18);
    assert!((0.0..=1.0).contains(&metric(&result, "acc1")));
}

#[test]
fn a_collection_is_scored_as_far_as_it_is_there() {
    let folder = Folder::new();
    cifar10(&folder);
    for (wnid, seed) in [("n01498041", 1), ("n07749582", 2)] {
        folder.image(&format!("data/imagenet-a/{wnid}/a.png"), [32, 32], seed);
    }
    let line = "zero-shot --model tiny --templates simple --dataset vtab+ --root data --output {dataset}.json";
    eval(&folder, line).succeeded().said(&[
        "not on disk: vtab/flowers",
        "flowers-102",
        "wds_vtab-flowers",
        "not on disk: sun397",
    ]);
    assert_eq!(json(&folder, "imagenet-a.json")["details"]["images"], 2);
    assert_eq!(
        json(&folder, "vtab_cifar10.json")["dataset"],
        "vtab/cifar10"
    );

    let none = "zero-shot --model tiny --dataset imagenet_robustness --root data/imagenet-a";
    eval(&folder, none).refused(&["imagenet_robustness", "none of its sets", "wds_objectnet"]);
    let other = "zero-shot --model tiny --dataset sugar_crepe --root data";
    eval(&folder, other).refused(&["eval choice --dataset sugar_crepe"]);
}

#[test]
fn sugar_crepe_is_scored_set_by_set() {
    let folder = Folder::new();
    folder.image("data/sugar_crepe/val2017/1.png", [32, 40], 1);
    let entry = r#"{"0": {"filename": "1.png", "caption": "a cat", "negative_caption": "a dog"}}"#;
    for task in ["add_att", "swap_obj"] {
        folder.write(&format!("data/sugar_crepe/{task}.json"), entry);
    }
    let line = "choice --model tiny --dataset sugar_crepe --root data --output {dataset}.json";
    eval(&folder, line)
        .succeeded()
        .said(&["not on disk: sugar_crepe/replace_rel", "replace_rel.json"]);
    for task in ["add_att", "swap_obj"] {
        let result = json(&folder, &format!("sugar_crepe_{task}.json"));
        assert_eq!(result["dataset"], format!("sugar_crepe/{task}"));
    }
    eval(&folder, "choice --model tiny --dataset sugar_crepe").refused(&["--root"]);
    eval(&folder, "choice --model tiny").refused(&["--format"]);
}

#[test]
fn commands_that_get_data_are_printed_and_nothing_is_downloaded() {
    let folder = Folder::new();
    let said = |name: &str| eval(&folder, &format!("fetch {name}")).succeeded().stdout;
    assert!(said("food101").contains("food-101.tar.gz"));
    let crepe = said("sugar_crepe");
    assert_eq!(crepe.matches("val2017.zip http").count(), 1, "{crepe}");
    assert_eq!(
        crepe.matches("raw.githubusercontent.com").count(),
        7,
        "{crepe}"
    );
    assert!(said("vtab+").contains("clip-benchmark/wds_vtab-dtd"));
    eval(&folder, "fetch nonsense").refused(&["nonsense", "cifar10", "vtab+"]);
    assert!(folder.names().is_empty());
}
