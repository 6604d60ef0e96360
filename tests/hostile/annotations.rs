//! Annotations of retrieval and of choices among captions.

use crate::{Dice, Said, json, pictures};
use clip_burn::eval::datasets::choice::{sugar_crepe, winoground};
use clip_burn::eval::datasets::retrieval::{RetrievalOptions, retrieval};
use serde_json::json;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    said.write("images/a.jpg", pictures::small());
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
    let lines = |dice: &mut Dice, value: serde_json::Value| {
        let lines = (0..1 + dice.below(4))
            .map(|_| [json::bytes(dice, value.clone()), b"\n".to_vec()].concat());
        lines.collect::<Vec<_>>().concat()
    };
    let content = match format {
        "karpathy" => {
            let image = json!({"filepath": "", "filename": "a.jpg", "split": "test", "sentences": [{"raw": "a cat"}]});
            let other = json!({"filename": "b.jpg", "split": "test", "sentences": []});
            json::bytes(dice, json!({"images": [image, other]}))
        }
        "coco" => {
            let id = dice.or_number(7);
            let images = json!([{"id": 7, "file_name": "a.jpg"}, {"id": id.wrapping_add(1), "file_name": "b.jpg"}]);
            let captions =
                json!([{"image_id": id, "caption": "a cat"}, {"image_id": 7, "caption": "a dog"}]);
            json::bytes(dice, json!({"images": images, "annotations": captions}))
        }
        "flickr" | "csv" => {
            let mut file = if format == "csv" {
                "filepath,title\n".to_string()
            } else {
                String::new()
            };
            for _ in 0..1 + dice.below(5) {
                let (name, caption) = (dice.or_text("a.jpg"), dice.or_text("a cat"));
                file += &match dice.below(3) {
                    0 if format == "flickr" => format!("{name}#0\t{caption}\n"),
                    1 => format!("{name},\"{caption}\n"),
                    _ => format!("{name},{caption}\n"),
                };
            }
            dice.mangled(file.into_bytes())
        }
        "blip" => json::bytes(
            dice,
            json!([{"image": "a.jpg", "caption": ["a cat"]}, {"image": "b.jpg", "caption": "b"}]),
        ),
        "docci" => lines(
            dice,
            json!({"example_id": "x", "split": "test", "image_file": "a.jpg", "description": "a cat"}),
        ),
        "sharegpt4v" => json::bytes(
            dice,
            json!([{"image": "a.jpg", "conversations": [{"value": "?"}, {"value": "a cat"}]}]),
        ),
        "xm3600" => lines(
            dice,
            json!({"image/key": "a", "en": {"caption": ["a cat"]}}),
        ),
        "chinese-clip" => {
            let mut table = Vec::new();
            for _ in 0..dice.below(4) {
                let id = dice.or_number(7).to_string();
                table.extend(dice.or_text(&id).into_bytes());
                table.extend(b"\t");
                table.extend(dice.or_text("iVBORw0KGgo=").into_bytes());
                table.extend(b"\n");
            }
            said.write("images.tsv", dice.mangled(table));
            lines(dice, json!({"text": "a cat", "image_ids": [7, 7, 8]}))
        }
        "jsonl" => lines(dice, json!({"image": "a.jpg", "caption": ["a cat"]})),
        "sugar" => json::bytes(
            dice,
            json!({"0": {"filename": "a.jpg", "caption": "a", "negative_caption": "b"}}),
        ),
        _ => lines(
            dice,
            json!({"image_0": "a", "image_1": "b", "caption_0": "a", "caption_1": "b"}),
        ),
    };
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
                max_captions: dice.bad().then(|| dice.number() as usize),
                join_lines: dice.bad(),
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
