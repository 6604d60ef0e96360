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

/// Three images, of which the second is none, and a table of them with captions.
fn table(folder: &Folder, separator: char, header: [&str; 2]) {
    folder.image("a.png", [40, 50], 1);
    folder.write("b.png", "no image");
    folder.image("c.png", [33, 64], 2);
    let long = "a cat ".repeat(100);
    let rows = [
        header,
        ["a.png", "a dog"],
        ["b.png", "none"],
        ["c.png", &long],
    ];
    let lines = rows.map(|row| row.join(&separator.to_string()) + "\n");
    folder.write("table.txt", lines.concat());
}

#[test]
fn a_table_becomes_the_folders_of_clip_retrieval_with_the_rows_of_the_one_file() {
    let folder = Folder::new();
    table(&folder, ';', ["image", "text"]);
    let input =
        "--model tiny --csv table.txt --csv-separator ; --csv-img-key image --csv-caption-key text";
    let npy = format!("{input} --format npy --metadata jsonl --write-batch-size 2 --out out");
    let outcome = folder.run("embed", &words(&npy)).said(&[
        "2 rows in 2 parts",
        "1 of 2 texts are longer",
        "left out: b.png",
        "1 of 3 images could not be read",
    ]);
    assert_eq!(outcome.code, Some(2));
    folder.run("embed", &words(&format!("{input} --out one")));
    let one = Features::read(&folder.path("one"));
    let images = [0, 1].map(|part| npy_rows(&folder, &format!("out/img_emb/img_emb_{part}.npy")));
    let texts = [0, 1].map(|part| npy_rows(&folder, &format!("out/text_emb/text_emb_{part}.npy")));
    assert_close(
        "images",
        &images.concat(),
        &one.values("image_features"),
        1e-6,
    );
    // The single file has all texts, the folders have those of the images that could be read.
    let [first, _, third] = &one.rows("text_features")[..] else {
        panic!("three texts")
    };
    assert_close(
        "texts",
        &texts.concat(),
        &[&first[..], third].concat(),
        1e-6,
    );
    let named = std::fs::read_to_string(folder.path("out/metadata/metadata_0.jsonl")).unwrap();
    assert_eq!(
        named,
        "{\"image_path\":\"a.png\",\"caption\":\"a dog\",\"key\":\"a.png\"}\n"
    );

    // A part that is there is kept; the merge of parts is a look at them.
    let outcome = folder.run("embed", &words(&npy));
    outcome.said(&["2 parts, 2 of which were there already", "1 of 3 images"]);
    folder
        .run("embed", &words("merge out"))
        .said(&["2 rows in 2 parts"]);
    folder
        .run("embed", &words(&format!("{npy} --dtype f16")))
        .refused(&["out/parts/part_0.json", "dtype", "overwrite"]);
    folder.run("embed", &words(&format!("{npy} --dtype f16 --overwrite")));
    let halves = npy_rows(&folder, "out/img_emb/img_emb_0.npy");
    assert_close("halves", &halves, &images[0], 1e-3);
    assert_ne!(halves, images[0]);
    std::fs::remove_file(folder.path("out/parts/part_1.json")).unwrap();
    folder
        .run("embed", &words("merge out"))
        .refused(&["1 of 2 parts are missing: 1"]);
}

fn npy_rows(folder: &Folder, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(folder.path(name)).unwrap();
    clip_burn::data::npy::parse(&bytes).unwrap().values
}

#[test]
fn a_folder_of_numpy_is_searched_by_the_names_beside_it() {
    let folder = Folder::new();
    for (seed, name) in ["p/a.png", "p/b.png", "p/c.png"].iter().enumerate() {
        folder.image(name, [40, 50], seed as u32);
    }
    let line = "--model tiny --images p --format npy --metadata jsonl --dtype f16 --write-batch-size 2 --out e";
    folder.run("embed", &words(line)).succeeded();
    assert!(!folder.path("e/text_emb").exists());
    let line = "--index e --model tiny --image p/c.png --top-k 1";
    let found = folder.run("search", &words(line)).succeeded().stdout;
    assert!(found.contains("1.0000  p/c.png"), "{found}");
    let line = "--index e/img_emb/img_emb_0.npy --model tiny --image p/a.png --top-k 2 --json";
    let found = folder.run("search", &words(line)).succeeded().stdout;
    assert!(
        found.contains("p/b.png") && !found.contains("p/c.png"),
        "{found}"
    );
    folder
        .run("search", &words("--index e --image p/c.png"))
        .refused(&["--model"]);
}

#[cfg(unix)]
#[test]
fn shards_from_a_command_are_embedded_as_the_files_are() {
    let folder = Folder::new();
    let line = "--format webdataset --split train --images 6 --shard-size 3 --out shards";
    folder.run("scenes", &words(line)).succeeded();
    let embed = |shards: &str, out: &str| {
        let mut line = words("--model tiny --format npy --metadata jsonl --write-batch-size 4");
        line.extend(["--webdataset", shards, "--out", out].map(String::from));
        line.extend(words("--cache-dir kept"));
        folder.run("embed", &line)
    };
    embed("shards/{00000..00001}.tar", "files").succeeded();
    embed("pipe:cat shards/{00000..00001}.tar", "piped").succeeded();
    for name in [
        "img_emb/img_emb_1.npy",
        "text_emb/text_emb_0.npy",
        "metadata/metadata_1.jsonl",
    ] {
        let [files, piped] =
            ["files", "piped"].map(|out| std::fs::read(folder.path(out).join(name)));
        assert_eq!(files.unwrap(), piped.unwrap(), "{name}");
    }
    embed("pipe:cat shards/00009.tar", "none")
        .refused(&["pipe:cat shards/00009.tar", "No such file"]);
}

#[test]
fn inputs_and_outputs_that_do_not_fit_are_refused_with_what_does() {
    let folder = Folder::new();
    table(&folder, '\t', ["filepath", "title"]);
    folder.write("texts.txt", "a\n");
    folder.write("empty.tsv", "filepath\ttitle\n");
    let refused = |line: &str, said: &[&str]| {
        let out = if line.contains("npy") { "parts" } else { "out" };
        let line = format!("--model tiny --out {out} {line}");
        folder.run("embed", &words(&line)).refused(said);
        assert!(!folder.path(out).exists(), "{line}");
    };
    let npy = "--format npy --metadata jsonl";
    refused("", &["nothing to embed", "--csv"]);
    refused(
        &format!("--images a.png --texts texts.txt {npy}"),
        &["two lists", "--csv"],
    );
    refused("--webdataset a.tar", &["--format npy"]);
    refused("--images a.png --overwrite", &["--overwrite"]);
    refused("--images a.png --csv table.txt", &["--csv"]);
    refused("--images a.png --csv-img-key x", &["--csv"]);
    refused(
        "--csv table.txt --csv-separator ab",
        &["`ab`", "one character"],
    );
    refused(
        "--csv table.txt --csv-img-key file",
        &["`file`", "filepath"],
    );
    refused(
        &format!("--webdataset https://h/0.tar {npy}"),
        &["https://h/0.tar", "--cache-dir"],
    );
    refused(&format!("--texts gone.txt {npy}"), &["gone.txt"]);
    refused(&format!("--csv empty.tsv {npy}"), &["empty.tsv"]);
    let line = format!("--model gone --texts texts.txt {npy} --out new/parts");
    folder.run("embed", &words(&line)).refused(&["gone"]);
    let line = format!("--model tiny --texts texts.txt {npy} --out texts.txt/parts");
    folder
        .run("embed", &words(&line))
        .refused(&["texts.txt/parts", "cannot be written"]);
    assert!(!folder.path("new").exists());
    if cfg!(not(feature = "parquet")) {
        refused(
            "--images a.png --format npy",
            &["--features parquet", "jsonl"],
        );
    }
}
