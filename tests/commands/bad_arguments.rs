//! Texts, paths and flags that are unusual or wrong.

use crate::command::{Folder, words};
use crate::features::{Features, assert_close};
use clip_burn::clip::checkpoint::{HostTensor, StateDict, write_safetensors};

#[test]
fn an_empty_line_and_ten_thousand_words_are_texts() {
    let folder = Folder::new();
    let long = "a very long caption of one photo ".repeat(10_000 / 7 + 1);
    assert!(long.split_whitespace().count() >= 10_000);
    let cut: Vec<&str> = long.split_whitespace().take(200).collect();
    folder.write("texts.txt", format!("a cat\n\n{long}\n{}\n", cut.join(" ")));
    let line = "--model tiny --texts texts.txt --out out";
    folder.run("embed", &words(line)).succeeded();
    let features = Features::read(&folder.path("out"));
    let rows = features.rows("text_features");
    assert_eq!(rows.len(), 4, "the empty line is a text of its own");
    assert_eq!(features.list("texts")[1], "");
    assert_ne!(rows[0], rows[1]);
    assert_close(
        "what is past the context has no say",
        &rows[2],
        &rows[3],
        1e-6,
    );
    assert_eq!(features.shapes()[0], ("image_features", &[0, 32][..]));
}

#[test]
fn texts_that_are_no_text() {
    let folder = Folder::new();
    folder.write("latin1.txt", b"caf\xe9\n");
    let run = |texts: &str| {
        let line = format!("--model tiny --texts {texts} --out out");
        folder.run("embed", &words(&line))
    };
    run("latin1.txt").refused(&["latin1.txt", "UTF-8"]);
    run("gone.txt").refused(&["gone.txt"]);
    assert_eq!(folder.names(), ["latin1.txt"]);
}

#[test]
fn where_nothing_can_be_written_nothing_is_left() {
    let folder = Folder::new();
    folder.image("a.png", [32, 32], 1);
    folder.write("file", "");
    let before = folder.names();
    // A path under a file stands for a folder without permission, which root would have.
    for out in ["file/out.safetensors", "no/such/folder/out.safetensors"] {
        let line = format!("--model tiny --images a.png --out {out}");
        folder.run("embed", &words(&line)).refused(&[out]);
        // Found out before hours of work, here before the model.
        let line = format!("--model gone --images a.png --out {out}");
        folder.run("embed", &words(&line)).refused(&[out]);
    }
    for out in ["file/model", "file"] {
        let line = format!("--from tiny --out {out}");
        folder.run("convert", &words(&line)).refused(&[out]);
    }
    #[cfg(target_os = "linux")]
    {
        let line = "--model tiny --images a.png --out /proc/out.safetensors";
        folder
            .run("embed", &words(line))
            .refused(&["/proc/out.safetensors"]);
        let line = "--from tiny --out /proc/model";
        folder
            .run("convert", &words(line))
            .refused(&["/proc/model"]);
    }
    assert_eq!(folder.names(), before);
}

#[test]
fn an_output_that_is_a_directory() {
    let folder = Folder::new();
    folder.image("a.png", [32, 32], 1);
    folder.image("full/kept.png", [32, 32], 1);
    let line = "--model tiny --images a.png --out full";
    folder.run("embed", &words(line)).refused(&["full"]);
    let line = "--from tiny --out full";
    folder
        .run("convert", &words(line))
        .refused(&["full", "not empty"]);
    assert_eq!(folder.names(), ["a.png", "full"]);
    assert!(folder.path("full/kept.png").is_file());
}

#[test]
fn backends_and_precisions_that_this_build_lacks() {
    let folder = Folder::new();
    folder.image("a.png", [32, 32], 1);
    let run = |flags: &str| {
        let line = format!("--model tiny --images a.png --out out {flags}");
        folder.run("embed", &words(&line))
    };
    run("--backend tpu").refused(&["tpu", "flex, ndarray, wgpu, cuda"]);
    run("--backend cuda:x").refused(&["`x`"]);
    if !cfg!(feature = "cuda") {
        run("--backend cuda").refused(&["no cuda backend", "--features cuda"]);
    }
    run("--precision f64").refused(&["f64"]);
    run("--batch-size 0").refused(&["--batch-size"]);
    assert_eq!(folder.names(), ["a.png"]);
}

#[test]
fn images_and_tasks_that_are_missing() {
    let folder = Folder::new();
    folder.write("folder/notes.md", "no image");
    let run = |line: &str| folder.run("embed", &words(line));
    run("--model tiny --out out").refused(&["--images", "--texts"]);
    run("--model tiny --images gone.png --out out").refused(&["gone.png"]);
    run("--model tiny --images folder --out out").refused(&["folder", "no images"]);
    let line = "--model tiny --images folder --labels cat --template photo";
    folder
        .run("classify", &words(line))
        .refused(&["photo", "{}"]);
    assert_eq!(folder.names(), ["folder"]);
}

#[test]
fn pixels_of_another_size_or_name() {
    let folder = Folder::new();
    for (file, name, shape) in [
        ("name", "images", vec![1, 3, 32, 32]),
        ("rank", "pixels", vec![3, 32, 32]),
        ("channels", "pixels", vec![1, 4, 32, 32]),
        ("size", "pixels", vec![1, 3, 32, 24]),
    ] {
        let mut dict = StateDict::default();
        let values = vec![0.0; shape.iter().product()];
        dict.insert(name, HostTensor::from_values(values, shape));
        write_safetensors(&folder.path(file), &dict).unwrap();
        let line = format!("--model tiny --pixels {file} --out out");
        folder
            .run("embed", &words(&line))
            .refused(&[file, "pixels"]);
    }
    assert_eq!(folder.names(), ["channels", "name", "rank", "size"]);
}
