//! Files of results, and the pages that are made of them.

use crate::{Dice, Said, json, pictures};
use clip_burn::eval::report::{Pictures, save_report};
use clip_burn::eval::results::{RunResult, load_all, row_names, to_csv};
use serde_json::json;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let picture = pictures::small();
    said.write("a.png", &picture);
    said.write("table.tsv", format!("a\t{}\n", pictures::PIXEL));
    for index in 0..1 + dice.below(3) {
        let length = picture.len() as u64;
        let result = dice.evenly(|dice| result(dice, &*said, length));
        let path = said.write(&format!("results/{index}.json"), result);
        said.hear(RunResult::load(&path));
    }
    let folder = said.path("results");
    let Some((results, skipped)) = said.hear(load_all(&[folder])) else {
        return;
    };
    row_names(&results);
    said.hear_of_bytes(to_csv(&results));
    let page = said.path("page.html");
    let all = Pictures::below(&[said.path(""), "/dev".into(), "/proc/self".into()])
        .expect("they are there");
    said.hear(save_report(&results, &skipped, &all, &page));
    // Behind the path, wherever it leads.
    let places = ["are no image", "is the layout of no image"];
    let other = [crate::said::OTHER, &places].concat();
    for result in results.iter().filter_map(|result| result.details.as_ref()) {
        for query in &result.queries {
            for hit in &query.hits {
                said.hear_in(hit.image.decode(), &other);
                hit.image.len();
            }
        }
    }
}

/// A file of results with an image of `length` bytes in it.
fn result(dice: &mut Dice, said: &Said, length: u64) -> Vec<u8> {
    let file = |dice: &mut Dice, name: &str| match dice.bad() {
        true => (*dice.pick(&["/dev/zero", "/proc/self/mem", "/", "/absent"])).to_string(),
        false => said.path(name).display().to_string(),
    };
    let image = match dice.below(4) {
        0 => json!(file(dice, "a.png")),
        1 => {
            json!({"shard": file(dice, "a.png"), "member": "a", "offset": dice.or_number(0), "len": dice.or_number(length)})
        }
        2 => {
            let length = pictures::PIXEL.len() as u64;
            json!({"table": file(dice, "table.tsv"), "id": "a", "offset": dice.or_number(2), "len": dice.or_number(length)})
        }
        _ => json!({"file": file(dice, "a.png"), "index": 0, "offset": dice.or_number(0), "layout":
            {"width": dice.or_number(3) as u32, "height": dice.or_number(3) as u32, "channels": dice.or_number(3) as u32, "by_column": false}}),
    };
    let result = json!({
        "dataset": "wds/x", "model": "m", "pretrained": "p", "task": "zeroshot_retrieval", "language": "en",
        "metrics": {"acc1": 0.5, "image_retrieval_recall@1": 0.5, "image_retrieval_recall@10": 1.0, "fewshot_k": 4},
        "classnames": ["cat", ["dog", "hound"]], "templates": ["a {c}"],
        "details": {
            "split": "test", "images": 3, "texts": 4, "classes": 2, "all_classes": 5,
            "bad_images": [], "notes": ["n"],
            "confusions": [{"class": "cat", "predicted": "dog", "images": 1, "of": 2}],
            "queries": [{"text": "a cat", "rank": 1, "hits": [{"image": image, "score": 0.5, "right": true}], "right": image}],
            "captions": [{"image": image, "web": "", "said": "a cat", "references": ["a dog"]}],
        },
    });
    json::bytes(dice, result)
}
