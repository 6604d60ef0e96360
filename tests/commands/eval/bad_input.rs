//! What is wrong is named, and nothing that was there is lost.

use super::{classes, eval, json, pairs};
use crate::command::Folder;

#[test]
fn a_missing_image_fails_the_run_or_is_counted() {
    let folder = Folder::new();
    pairs(&folder, "s", 8);
    std::fs::remove_file(folder.path("s/images/test-0000003.png")).unwrap();
    let line = "retrieval --model tiny --format karpathy --annotations s/dataset_scenes.json --images s/images";
    folder.write("r.json", "an older result");
    eval(&folder, &format!("{line} --output r.json"))
        .refused(&["--output: r.json exists", "overwrite"]);
    let line = format!("{line} --overwrite");
    eval(&folder, &format!("{line} --output r.json")).refused(&[
        "1 of 8 images",
        "test-0000003.png",
        "raise --max-bad",
    ]);
    let kept = std::fs::read_to_string(folder.path("r.json")).unwrap();
    assert_eq!(kept, "an older result");

    let lenient = eval(&folder, &format!("{line} --max-bad 1 --output r.json")).succeeded();
    assert!(
        lenient
            .stdout
            .contains("skipped: s/images/test-0000003.png"),
        "{}",
        lenient.stdout
    );
    let details = &json(&folder, "r.json")["details"];
    assert_eq!(
        (&details["images"], &details["texts"]),
        (&7.into(), &35.into())
    );
    assert_eq!(details["bad_images"].as_array().unwrap().len(), 1);
}

#[test]
fn annotations_that_contradict_themselves_are_refused() {
    let folder = Folder::new();
    folder.image("a.png", [32, 32], 1);
    let refused = |format: &str, text: &str, said: &[&str]| {
        folder.write("annotations.json", text);
        let line = format!(
            "retrieval --model tiny --format {format} --annotations annotations.json --output r.json"
        );
        eval(&folder, &line).refused(said);
    };
    let coco = r#"{"images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": 9, "caption": "y"}]}"#;
    refused(
        "coco",
        coco,
        &["annotations.json", "image 9, which is not listed"],
    );
    let twice = r#"[{"image": "a.png", "caption": "x"}, {"image": "a.png", "caption": "y"}]"#;
    refused(
        "blip",
        twice,
        &["`a.png` is listed twice (entries 1 and 2)"],
    );
    refused(
        "karpathy",
        coco,
        &[
            "annotations.json",
            "not an annotation file of Karpathy's schema",
            "`filename`",
        ],
    );
    refused("karpathy", "{", &["annotations.json", "line 1"]);
    refused(
        "jsonl",
        "{\"image\": \"a.png\"}\n",
        &["annotations.json", "line 1", "caption"],
    );
    refused(
        "blip",
        r#"[{"image": "a.png", "caption": ""}]"#,
        &["empty caption", "a.png"],
    );
    refused("blip", "[]", &["not a single caption"]);
    refused("cocoa", "[]", &["--format", "`cocoa`", "karpathy, coco"]);
    assert!(!folder.path("r.json").exists());
}

#[test]
fn an_empty_class_is_noted_and_counts_for_nothing() {
    let folder = Folder::new();
    classes(&folder, "s", "--images 12");
    for entry in folder.path("s/images/c004").read_dir().unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let line = "zero-shot --model tiny --dataset folder --root s/images --output r.json";
    let said = eval(&folder, line).succeeded().stdout;
    assert!(
        said.contains("note: 1 of 6 classes have no image"),
        "{said}"
    );
    assert!(said.contains("c004"), "{said}");
    folder.write("names.txt", "a\nb\n");
    let few = format!("{line} --classnames names.txt --overwrite");
    eval(&folder, &few).refused(&["labels need 6 classes, 2 class names", "classnames"]);
}

#[test]
fn a_split_that_is_not_there_gives_no_accuracy() {
    let folder = Folder::new();
    classes(&folder, "cls/val", "--images 12");
    let line = "zero-shot --model tiny --dataset folder --output r.json --root";
    let said = ["no split `test`", "val"];
    eval(&folder, &format!("{line} cls --split test")).refused(&said);
    // One level too high: the only "class" would be `images`, and all of it right.
    eval(&folder, &format!("{line} cls/val")).refused(&["hold nothing but folders", "images"]);
    eval(&folder, &format!("{line} cls --split val")).refused(&["hold nothing but folders"]);
    let wds = format!("{line} cls --split test").replace("folder", "wds");
    eval(&folder, &wds).refused(&said);
    assert!(!folder.path("r.json").exists());
    eval(&folder, &format!("{line} cls --split val/images")).succeeded();
    assert_eq!(json(&folder, "r.json")["details"]["split"], "val/images");
}

#[test]
fn embeddings_of_another_size_are_refused() {
    let folder = Folder::new();
    folder.image("a.png", [32, 32], 1);
    folder.image("b.png", [32, 32], 2);
    folder.write("texts.txt", "one\ntwo\nthree\n");
    let embed = |model: &str, images: &str, out: &str| {
        let line = format!("--model {model} --images {images} --texts texts.txt --out {out}");
        folder
            .run("embed", &crate::command::words(&line))
            .succeeded();
    };
    embed("tiny", "a.png b.png", "two.safetensors");
    embed("tiny", "a.png", "one.safetensors");
    embed("scenes", "a.png b.png", "other.safetensors");
    let lines = [
        r#"{"image": "a.png", "caption": ["one", "two"]}"#,
        r#"{"image": "b.png", "caption": "three"}"#,
    ];
    folder.write("pairs.jsonl", lines.join("\n"));
    let refused = |images: &str, texts: &str, said: &[&str]| {
        let line = format!(
            "retrieval --format jsonl --annotations pairs.jsonl --image-features {images} --text-features {texts}"
        );
        eval(&folder, &format!("{line} --output r.json")).refused(said);
    };
    refused(
        "one.safetensors",
        "two.safetensors",
        &["no embedding of b.png", "1 images, the first is a.png"],
    );
    refused(
        "two.safetensors",
        "other.safetensors",
        &["texts have", "images 32"],
    );
    refused(
        "a.png",
        "two.safetensors",
        &["a.png", "not a safetensors file"],
    );
    refused("gone", "two.safetensors", &["gone"]);
    assert!(!folder.path("r.json").exists());
}

#[test]
fn wrong_options_are_named_with_what_they_may_be() {
    let folder = Folder::new();
    classes(&folder, "s", "--images 6");
    let zero_shot = "zero-shot --model tiny --dataset folder --root s/images";
    let refused = |line: &str, said: &[&str]| eval(&folder, line).refused(said);
    refused(
        &format!("{zero_shot} --templates fancy"),
        &["`fancy`", "laclip7", "clips81"],
    );
    refused(
        &format!("{zero_shot} --language de"),
        &["--language", "`de`", "en, cn"],
    );
    refused(
        &format!("{zero_shot} --batch-size 0"),
        &["--batch-size", "at least 1"],
    );
    refused(
        "zero-shot --model tiny --dataset cifar --root s",
        &["`cifar`", "imagenet", "wds/NAME"],
    );
    refused(
        "zero-shot --model nothing --dataset folder --root s",
        &["nothing"],
    );
    refused(
        "zero-shot --model tiny --dataset folder --root gone",
        &["gone"],
    );
    refused(
        "zero-shot --model tiny,scenes --dataset folder --root s/images --output r.json",
        &["--output", "{model}"],
    );
    let retrieval = "retrieval --model tiny --format jsonl --annotations pairs.jsonl";
    folder.write(
        "pairs.jsonl",
        "{\"image\": \"a.png\", \"caption\": \"x\"}\n",
    );
    refused(
        &format!("{retrieval} --recall-k 0,5"),
        &["--recall-k", "from 1 on"],
    );
    let features = retrieval.replace("--model tiny", "--image-features x");
    refused(&features, &["--text-features"]);
    let stray: Vec<_> = folder
        .names()
        .into_iter()
        .filter(|name| name.ends_with(".json"))
        .collect();
    assert!(stray.is_empty(), "{stray:?}");
}
