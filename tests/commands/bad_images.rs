//! Images that cannot be read are named, left out and counted; extreme ones are embedded.

use crate::command::{Folder, words};
use crate::features::Features;
use image::{GrayImage, Luma};

/// Embeds `a.png`, `bad` and `b.png`: the two good ones must be written and the bad one named with `why`.
#[track_caller]
fn assert_left_out(folder: &Folder, bad: &str, why: &str) {
    folder.image("a.png", [40, 40], 1);
    folder.image("b.png", [40, 40], 2);
    let line = format!("--model tiny --images a.png {bad} b.png --out out.safetensors");
    let outcome = folder.run("embed", &words(&line)).said(&[
        "left out",
        bad,
        why,
        "1 of 3 images could not be read",
    ]);
    assert_eq!(outcome.code, Some(2));
    let features = Features::read(&folder.path("out.safetensors"));
    assert_eq!(features.list("image_paths"), ["a.png", "b.png"]);
    assert_eq!(features.rows("image_features").len(), 2);

    let line = format!("--model tiny --images a.png {bad} b.png --labels x y");
    let outcome = folder.run("classify", &words(&line)).said(&[bad, why]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stdout.contains("a.png") && outcome.stdout.contains("b.png"));
    assert!(!outcome.stdout.contains(bad));
}

#[test]
fn a_truncated_jpeg() {
    let folder = Folder::new();
    let path = folder.image("cut.jpg", [90, 70], 3);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() * 3 / 5]).unwrap();
    assert_left_out(&folder, "cut.jpg", "truncated");
}

#[test]
fn a_text_file_named_jpg() {
    let folder = Folder::new();
    folder.write("letter.jpg", "Dear reader, this is no photo.\n");
    assert_left_out(&folder, "letter.jpg", "Dear reader");
}

#[test]
fn an_empty_file() {
    let folder = Folder::new();
    folder.write("empty.jpg", "");
    assert_left_out(&folder, "empty.jpg", "empty");
}

#[test]
fn a_file_that_a_list_names_but_nobody_has() {
    let folder = Folder::new();
    folder.image("a.png", [40, 40], 1);
    folder.write("list.txt", "a.png\ngone.png\n");
    let line = "--model tiny --images list.txt --out out";
    let outcome = folder
        .run("embed", &words(line))
        .said(&["gone.png", "1 of 2"]);
    assert_eq!(outcome.code, Some(2));
    assert_eq!(
        Features::read(&folder.path("out")).list("image_paths"),
        ["a.png"]
    );
}

#[test]
fn where_no_image_can_be_read_the_file_has_no_rows() {
    let folder = Folder::new();
    folder.write("letter.png", "no photo");
    let outcome = folder.run(
        "embed",
        &words("--model tiny --images letter.png --out out"),
    );
    assert_eq!(outcome.code, Some(2));
    let features = Features::read(&folder.path("out"));
    assert_eq!(features.shapes()[0], ("image_features", &[0, 32][..]));
}

#[test]
fn one_pixel_and_extreme_aspect_ratios_are_embedded() {
    let folder = Folder::new();
    folder.image("dot.png", [1, 1], 3);
    for (name, [width, height]) in [("wide.png", [20_000, 10]), ("tall.png", [10, 20_000])] {
        GrayImage::from_fn(width, height, |x, y| Luma([((x + y) % 256) as u8]))
            .save(folder.path(name))
            .unwrap();
    }
    let line = "--model tiny --images dot.png wide.png tall.png --out out";
    folder.run("embed", &words(line)).succeeded();
    let features = Features::read(&folder.path("out"));
    assert_eq!(features.rows("image_features").len(), 3);
    assert!(
        features
            .values("image_features")
            .iter()
            .all(|x| x.is_finite())
    );
}
