//! The members of samples, and of the embeddings beside them.

use super::Place;
use super::tar::Member;
use crate::{Dice, arrays, json, pictures};
use serde_json::json;

const IMAGES: &[&str] = &["jpg", "txt", "json", "cls", "npy"];
const EMBEDDINGS: &[&str] = &["short", "long"];

/// The members of some shards, and those of their siblings.
pub fn make(dice: &mut Dice, shards: usize, place: Place) -> (Vec<Vec<Member>>, Vec<Vec<Member>>) {
    let hostile = match dice.below(3) {
        0 => *dice.pick(EMBEDDINGS),
        _ => *dice.pick(IMAGES),
    };
    let style = dice.below(5);
    let (mut images, mut siblings) = (Vec::new(), Vec::new());
    for shard in 0..shards {
        let mut keys: Vec<_> = (0..1 + dice.below(3))
            .map(|sample| key(style, 10 * shard + sample))
            .collect();
        let mut members = |keys: &[String], extensions: &[&str]| {
            let mut members = Vec::new();
            for key in keys {
                for extension in extensions {
                    let here = place == Place::Content && *extension == hostile;
                    let content = dice.only(here, |dice| content(dice, extension));
                    let extension = match *extension {
                        "jpg" => *dice.pick(&["jpg", "jpg", "JPG", "png", "jpeg", "webp"]),
                        other => other,
                    };
                    let name = format!("{key}.{extension}");
                    members.push(Member { name, content });
                }
            }
            members
        };
        let of_images = members(&keys, IMAGES);
        if style == 1 {
            keys.reverse();
        }
        let of_siblings = members(&keys, EMBEDDINGS);
        let renamed = |dice: &mut Dice| {
            let names = of_images.iter().map(|member| Member {
                name: dice.or_text(&member.name),
                ..member.clone()
            });
            let names = names.collect();
            disordered(dice, names)
        };
        images.push(dice.only(place == Place::Names, renamed));
        let disordered = |dice: &mut Dice| disordered(dice, of_siblings.clone());
        siblings.push(dice.only(place == Place::Siblings, disordered));
    }
    (images, siblings)
}

/// The name of a sample, in the ways of those who make shards.
fn key(style: usize, number: usize) -> String {
    match style {
        0 => format!("a/b.c/{number:09}"),
        1 => format!("{number}"),
        2 => format!("{}{number:03}", "long/".repeat(30)),
        3 => format!("größe_{number}"),
        _ => format!("{number:03}"),
    }
}

/// Members that are missing, at another place, twice, or of nobody.
fn disordered(dice: &mut Dice, mut members: Vec<Member>) -> Vec<Member> {
    if dice.bad() {
        let place = dice.below(members.len());
        members.remove(place);
    }
    if dice.bad() {
        let (one, other) = (dice.below(members.len()), dice.below(members.len()));
        members.swap(one, other);
    }
    if dice.bad() {
        let again = members[dice.below(members.len())].clone();
        let place = dice.below(members.len());
        members.insert(place, again);
    }
    if dice.bad() {
        let mut nobody = members[0].clone();
        nobody.name = dice.text();
        members.push(nobody);
    }
    members
}

fn content(dice: &mut Dice, extension: &str) -> Vec<u8> {
    match extension {
        "jpg" => match dice.bad() {
            true => {
                let length = dice.below(40);
                dice.noise(length)
            }
            false => pictures::small(),
        },
        "txt" => {
            let texts = ["a cat", "a cat\na dog", "ein Bär\\nmit Hut\r\na dog\n", "a"];
            let text = *dice.pick(&texts);
            match dice.bad() {
                true => match dice.below(4) {
                    0 => dice.noise(30),
                    1 => b"a\n".repeat(100_000),
                    _ => dice.text().into_bytes(),
                },
                false => text.as_bytes().to_vec(),
            }
        }
        "json" => {
            let caption = match dice.below(4) {
                0 => json!("a cat"),
                1 => json!(["a cat", "", "a dog", 3]),
                2 => json!(vec!["a cat"; 40]),
                _ => json!(["a cat", "a dog"]),
            };
            let url = "https://example.org/a.jpg";
            let object = json!({"caption": caption, "width": 3, "url": url, "exif": null});
            json::text(dice, object).into_bytes()
        }
        "cls" => {
            let label = *dice.pick(&["0", "1", " 1\n", "+1"]);
            match dice.bad() {
                true => dice.number().to_string(),
                false => dice.or_text(label),
            }
            .into_bytes()
        }
        "npy" => arrays::npy(dice, &[2]),
        _ => vector(dice),
    }
}

/// An embedding in one of its three forms.
fn vector(dice: &mut Dice) -> Vec<u8> {
    match dice.below(3) {
        0 => arrays::npy(dice, &[3]),
        1 => {
            let mut numbers = [0.5f32, -0.25, 1.0];
            if dice.bad() {
                numbers[1] = *dice.pick(&[f32::NAN, f32::INFINITY, f32::MIN, -0.0]);
            }
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            dice.mangled(bytes.collect())
        }
        _ => {
            let (kind, size) = *dice.pick(&[("F32", 4), ("F16", 2), ("BF16", 2)]);
            let kind = dice.or_text(kind);
            let (side, end) = (dice.or_number(3), dice.or_number(3 * size));
            let head = json!({"e": {"dtype": kind, "shape": [side], "data_offsets": [0, end]}});
            let head = json::text(dice, head);
            let length = dice.or_number(head.len() as u64);
            let values = vec![0x3c; 3 * size as usize];
            [&length.to_le_bytes()[..], head.as_bytes(), &values].concat()
        }
    }
}
