//! What `convert` writes is read by the reference.

use crate::command::{Folder, fixture, words};
use crate::features::{Features, assert_close};
use clip_burn::clip::checkpoint::read_state_dict;
use std::path::Path;
use std::process::Command;

/// `commands_open_clip.py MODEL IMAGE TEXTS OUT`, by the interpreter that `CLIP_BURN_PYTHON` names, else `python3`.
fn reference(arguments: [&Path; 4]) {
    let python = std::env::var("CLIP_BURN_PYTHON").unwrap_or("python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/commands_open_clip.py");
    let output = Command::new(&python)
        .arg(script)
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs a Python with open_clip, which CLIP_BURN_PYTHON names"]
fn open_clip_loads_a_converted_directory_and_gives_the_same_features() {
    let folder = Folder::new();
    let model = folder.tiny_model("model");
    let image = folder.image("a.png", [70, 50], 1);
    let texts = folder.write(
        "texts.txt",
        "a cat\n\nein großer Hund &amp; 🐕, it's 3 o'clock\n",
    );
    let theirs = folder.path("theirs.safetensors");
    reference([&model, &image, &texts, &theirs]);
    let theirs = read_state_dict(&theirs).unwrap();
    let run = |images: &str| {
        let line = format!("--model model {images} --texts texts.txt --no-normalize --out out");
        folder.run("embed", &words(&line)).succeeded();
        Features::read(&folder.path("out"))
    };
    let from_pixels = run("--pixels theirs.safetensors");
    for name in ["image_features", "text_features", "logit_scale"] {
        let expected = theirs.get(name).unwrap().values();
        assert_close(name, &from_pixels.values(name), &expected, 1e-5);
    }
    let from_file = run("--images a.png").values("image_features");
    let expected = theirs.get("image_features").unwrap().values();
    assert_close("from the file", &from_file, &expected, 1e-4);
}

#[test]
#[ignore = "needs a Python with open_clip, which CLIP_BURN_PYTHON names"]
fn open_clip_reads_the_tokenizer_of_a_converted_hugging_face_directory() {
    let folder = Folder::new();
    let from = fixture("hugging_face").display().to_string();
    let arguments = ["--from", &from, "--out", "model"];
    folder.run("convert", &arguments).succeeded();
    let image = folder.image("a.png", [70, 50], 1);
    let theirs = folder.path("theirs.safetensors");
    reference([
        &folder.path("model"),
        &image,
        &fixture("texts.txt"),
        &theirs,
    ]);
    let theirs = read_state_dict(&theirs).unwrap();
    let expected = read_state_dict(&fixture("expected.safetensors")).unwrap();
    assert_close(
        "texts",
        &theirs.get("text_features").unwrap().values(),
        &expected.get("hugging_face.text").unwrap().values(),
        1e-5,
    );
}
