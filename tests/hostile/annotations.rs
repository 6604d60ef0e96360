//! Annotations of retrieval and of choices among captions.

use crate::{Dice, Said, json, pictures};
use clip_burn::eval::datasets::choice::{sugar_crepe, winoground};
use clip_burn::eval::datasets::retrieval::{RetrievalOptions, retrieval};
use serde_json::{Value, json};

pub fn attack(dice: &mut Dice, said: &mut Said) {
    for name in ["a.jpg", "b.jpg", "a.png", "b.png", "7.jpg", "8.jpg"] {
        said.write(&format!("images/{name}"), pictures::small());
    }
    let format = *dice.pick(&[
        "karpathy",
        "coco",
        "flickr",
        "blip",
        "docci",
        "sharegpt4v",
        "xm3600",
        "chinese-clip",
        "jsonl",
        "csv",
        "sugar",
        "winoground",
    ]);
    let content = dice.evenly(|dice| content(dice, &*said, format));
    let path = said.write("annotations.json", content);
    let table = dice.below(2) == 0 && format == "chinese-clip";
    let images = said.path(if table { "images.tsv" } else { "images" });
    let data_set = format!("data set {format}");
    let images = match format {
        "sugar" => said
            .hear(sugar_crepe(&path, &images))
            .map(|data| data.images),
        "winoground" => said
            .hear(winoground(&path, &images))
            .map(|data| data.images),
        _ => {
            let options = RetrievalOptions {
                max_captions: (dice.below(4) == 0).then(|| dice.number() as usize),
                join_lines: dice.below(2) == 0,
                ..RetrievalOptions::default()
            };
            let data = said.hear_in(
                retrieval(format, &path, &images, &options),
                &[data_set.as_str()],
            );
            data.map(|data| {
                let all: Vec<usize> = (0..data.images.len()).collect();
                said.hear(data.keep_images(&all));
                data.images
            })
        }
    };
    for image in images.iter().flatten().take(3) {
        said.hear_in(image.decode(), crate::said::OTHER);
    }
}

fn content(dice: &mut Dice, said: &Said, format: &str) -> Vec<u8> {
    match format {
        "karpathy" => {
            let image = json!({"filepath": "", "filename": "a.jpg", "split": "test", "sentences": [{"raw": "a cat"}]});
            let other = json!({"filename": "b.jpg", "split": "train", "sentences": []});
            json::bytes(dice, json!({"images": [image, other]}))
        }
        "coco" => {
            let images = json!([{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}]);
            let id = dice.or_number(8);
            let captions =
                json!([{"image_id": id, "caption": "a cat"}, {"image_id": 7, "caption": "a dog"}]);
            json::bytes(dice, json!({"images": images, "annotations": captions}))
        }
        "flickr" | "csv" => table(dice, format),
        "blip" => json::bytes(
            dice,
            json!([{"image": "a.jpg", "caption": ["a cat"]}, {"image": "b.jpg", "caption": "b"}]),
        ),
        "docci" => lines(
            dice,
            |name| json!({"example_id": name, "split": "test", "image_file": format!("{name}.jpg"), "description": "a cat"}),
        ),
        "sharegpt4v" => json::bytes(
            dice,
            json!([{"image": "a.jpg", "conversations": [{"value": "?"}, {"value": "a cat"}]}]),
        ),
        "xm3600" => lines(
            dice,
            |name| json!({"image/key": name, "en": {"caption": ["a cat"]}}),
        ),
        "chinese-clip" => {
            let mut table = Vec::new();
            for id in ["7", "8"] {
                table.extend(dice.or_text(id).into_bytes());
                table.extend(b"\t");
                table.extend(dice.or_text(pictures::PIXEL).into_bytes());
                table.extend(b"\n");
            }
            said.write("images.tsv", dice.mangled(table));
            lines(dice, |_| json!({"text": "a cat", "image_ids": [7, 7, 8]}))
        }
        "jsonl" => lines(
            dice,
            |name| json!({"image": format!("{name}.jpg"), "caption": ["a cat"]}),
        ),
        "sugar" => json::bytes(
            dice,
            json!({"0": {"filename": "a.jpg", "caption": "a", "negative_caption": "b"}}),
        ),
        _ => lines(
            dice,
            |name| json!({"image_0": name, "image_1": "b", "caption_0": "a", "caption_1": "b"}),
        ),
    }
}

/// A line for each of two images.
fn lines(dice: &mut Dice, line: impl Fn(&str) -> Value) -> Vec<u8> {
    let lines = ["a", "b"].map(|name| [json::bytes(dice, line(name)), b"\n".to_vec()].concat());
    lines.concat()
}

fn table(dice: &mut Dice, format: &str) -> Vec<u8> {
    let header = format == "csv";
    let mut file = String::from(if header { "filepath,title\n" } else { "" });
    for _ in 0..1 + dice.below(5) {
        let name = *dice.pick(&["a.jpg", "b.jpg"]);
        let (name, caption) = (dice.or_text(name), dice.or_text("a cat"));
        file += &match dice.below(3) {
            0 if !header => format!("{name}#0\t{caption}\n"),
            1 if dice.bad() => format!("{name},\"{caption}\n"),
            1 => format!("{name},\"{caption}\"\n"),
            _ => format!("{name},{caption}\n"),
        };
    }
    dice.mangled(file.into_bytes())
}
