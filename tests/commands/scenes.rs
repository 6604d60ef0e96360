//! `scenes`: every format is written, and what it writes is read by `eval`.

use crate::command::{Folder, words};

const SMALL: &str = "--images 12 --image-size 32 --shapes 2 --colours 3 --max-objects 1";

#[test]
fn every_format_is_written_and_a_sheet_to_look_at() {
    let folder = Folder::new();
    for (format, files) in [
        (
            "webdataset",
            &["00000.tar", "00001.tar", "00002.tar", "sizes.json"][..],
        ),
        (
            "cc3m",
            &["cc3m_original.csv", "cc3m_chatgpt.txt", "images"][..],
        ),
        ("karpathy", &["dataset_scenes.json", "images"][..]),
        (
            "imagenet",
            &["classnames.txt", "templates.txt", "images/c005"][..],
        ),
    ] {
        let line = format!("--format {format} --out out/{format} --shard-size 5 {SMALL}");
        let said = folder.run("scenes", &words(&line)).succeeded().stdout;
        assert_eq!(said, format!("out/{format}: 12 images of 6 classes\n"));
        for file in files {
            assert!(
                folder.path(&format!("out/{format}/{file}")).exists(),
                "{file}"
            );
        }
    }
    let line = format!("--sheet sheet.png {SMALL}");
    folder.run("scenes", &words(&line)).succeeded();
    let sheet = image::open(folder.path("sheet.png")).unwrap();
    assert!(sheet.width() > 4 * 192, "four pictures in a row");
}

#[test]
fn the_seed_decides_and_splits_differ() {
    let folder = Folder::new();
    let annotations = |name: &str, more: &str| {
        let line = format!("--format karpathy --out {name} {SMALL} {more}");
        folder.run("scenes", &words(&line)).succeeded();
        std::fs::read_to_string(folder.path(&format!("{name}/dataset_scenes.json"))).unwrap()
    };
    let first = annotations("a", "");
    assert_eq!(first, annotations("b", "--seed 0 --split test"));
    assert_ne!(first, annotations("c", "--seed 1"));
    assert!(annotations("d", "--split train").contains("train-0000000.png"));
}

#[test]
fn a_folder_that_exists_and_settings_without_sense_are_refused() {
    let folder = Folder::new();
    folder.write("out/mine.txt", "keep me");
    let refused = |line: &str, said: &[&str]| folder.run("scenes", &words(line)).refused(said);
    refused("--format cc3m --out out", &["out exists already"]);
    assert_eq!(
        std::fs::read_to_string(folder.path("out/mine.txt")).unwrap(),
        "keep me"
    );
    refused(
        "--format cc3m --out x --colours 9",
        &["colours is 9", "2 to 8"],
    );
    refused(
        "--format cc3m --out x --images 0",
        &["--images", "at least 1"],
    );
    refused("--format coco --out x", &["'coco'", "karpathy"]);
    refused("--format cc3m", &["--out"]);
    refused("", &["--format"]);
    refused("--sheet sheet.txt", &["sheet.txt", ".png"]);
    assert_eq!(folder.names(), ["out"]);
}
