//! `convert`: a directory that says the same as what it was made from.

use crate::command::{Folder, fixture, words};
use crate::features::{Features, assert_close};

#[test]
fn a_bare_checkpoint_with_a_preset_gives_a_directory_with_identical_features() {
    let folder = Folder::new();
    folder.image("a.png", [50, 40], 1);
    folder.write("texts.txt", "a cat\na dog");
    let features = |model: &str| {
        let line = format!("--model {model} --images a.png --texts texts.txt --out out");
        folder.run("embed", &words(&line)).succeeded();
        let features = Features::read(&folder.path("out"));
        let tensors = ["image_features", "text_features", "logit_scale"];
        tensors.map(|name| features.values(name))
    };
    let original = features("tiny");
    folder.tiny_model("first");
    assert_eq!(features("first"), original);

    let bare = folder.path("bare.safetensors");
    std::fs::copy(folder.path("first/open_clip_model.safetensors"), bare).unwrap();
    assert_eq!(features("bare.safetensors --config tiny"), original);

    let line = "--from bare.safetensors --config tiny --out second";
    let outcome = folder.run("convert", &words(line)).succeeded();
    assert!(
        outcome.stdout.contains("wrote second ("),
        "{}",
        outcome.stdout
    );
    assert_eq!(features("second"), original);
    assert_eq!(features("local-dir:second"), original);
    for file in ["open_clip_model.safetensors", "open_clip_config.json"] {
        let read = |model: &str| std::fs::read(folder.path(model).join(file)).unwrap();
        assert!(read("first") == read("second"), "{file}");
    }
    let names = folder.names();
    let expected = [
        "a.png",
        "bare.safetensors",
        "first",
        "out",
        "second",
        "texts.txt",
    ];
    assert_eq!(names, expected, "nothing partial is left");
}

#[test]
fn a_config_file_carries_its_preprocessing_along() {
    let folder = Folder::new();
    folder.image("wide.png", [40, 120], 1);
    let model = folder.tiny_model("first");
    let text = std::fs::read_to_string(model.join("open_clip_config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["preprocess_cfg"]["resize_mode"] = "squash".into();
    config["preprocess_cfg"]["mean"] = vec![0.5, 0.5, 0.5].into();
    folder.write("squash.json", config.to_string());
    let line = "--from first/open_clip_model.safetensors --config squash.json --out second";
    folder.run("convert", &words(line)).succeeded();
    let features = |model: &str| {
        let line = format!("--model {model} --images wide.png --out out");
        folder.run("embed", &words(&line)).succeeded();
        Features::read(&folder.path("out")).values("image_features")
    };
    assert_ne!(features("first"), features("second"));
    let text = std::fs::read_to_string(folder.path("second/open_clip_config.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["preprocess_cfg"]["resize_mode"], "squash");
}

#[test]
fn a_hugging_face_directory_keeps_its_features_and_tokenizer() {
    let folder = Folder::new();
    let from = fixture("hugging_face").display().to_string();
    folder
        .run("convert", &["--from", &from, "--out", "converted"])
        .succeeded();
    let (pixels, texts) = (fixture("expected.safetensors"), fixture("texts.txt"));
    folder
        .run(
            "embed",
            &[
                "--model".as_ref(),
                "converted".as_ref(),
                "--no-normalize".as_ref(),
                "--pixels".as_ref(),
                pixels.as_os_str(),
                "--texts".as_ref(),
                texts.as_os_str(),
                "--out".as_ref(),
                "out".as_ref(),
            ],
        )
        .succeeded();
    let features = Features::read(&folder.path("out"));
    let expected = clip_burn::clip::checkpoint::read_state_dict(&pixels).unwrap();
    for tower in ["image", "text"] {
        assert_close(
            tower,
            &features.values(&format!("{tower}_features")),
            &expected
                .get(&format!("hugging_face.{tower}"))
                .unwrap()
                .values(),
            1e-5,
        );
    }
}
