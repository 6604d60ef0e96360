//! Folders of runs: checkpoints of training, and the records of rewriting.

use crate::{Dice, Said, json, tensors};
use burn::tensor::TensorData;
use clip_burn::laclip::rewrite::merge;
use clip_burn::train::Start;
use clip_burn::train::checkpoint::{CheckpointConfig, Checkpoints, Progress, Saved, State};
use serde_json::{Map, Value, json};
use std::path::Path;

const MANIFEST: &str = "manifest.json";

pub fn attack(dice: &mut Dice, said: &mut Said) {
    if dice.below(4) == 0 {
        return rewritten(dice, said);
    }
    let root = said.path("checkpoints");
    let checkpoints = Checkpoints::new(&root, CheckpointConfig::default());
    let tensor = || TensorData::new(vec![1.0f32; 6], [2, 3]);
    let saved = Saved {
        weights: [("a".to_string(), tensor())].into(),
        optimizer: [("exp_avg.a".to_string(), tensor())].into(),
        ema: Some([("a".to_string(), tensor())].into()),
        state: State {
            progress: Progress {
                step: 7,
                ..Progress::default()
            },
            ..State::default()
        },
        ..Saved::default()
    };
    let dir = checkpoints
        .save(&saved, &(), "[run]\nsteps = 1\n")
        .expect("a new folder");
    let file = *dice.pick(&[
        MANIFEST,
        "state.json",
        "weights.json",
        "weights.safetensors",
        "optimizer.safetensors",
        "recipe.toml",
    ]);
    let path = dir.join(file);
    if file == "weights.json" {
        let stored =
            json!({"b": {"file": "../weights.safetensors", "tensor": "a", "shape": [2, 3]}});
        std::fs::write(&path, stored.to_string()).expect("a new file");
    }
    if file != MANIFEST && dice.below(4) > 0 {
        // Whoever changes a file can leave it out of the list, too.
        let list = std::fs::read(dir.join(MANIFEST)).expect("it was just written");
        let mut list: Map<String, Value> = serde_json::from_slice(&list).expect("it is ours");
        list.shift_remove(file);
        let list = Value::Object(list).to_string();
        std::fs::write(dir.join(MANIFEST), list).expect("it was just written");
    }
    dice.evenly(|dice| change(dice, &path));
    said.hear(checkpoints.find(&Start::Latest));
    said.hear(checkpoints.find(&Start::Checkpoint(dir.clone())));
    said.hear_in(Saved::read(&dir), crate::said::OTHER);
    checkpoints.clean();
    checkpoints.all();
}

fn change(dice: &mut Dice, path: &Path) {
    let whole = std::fs::read(path).expect("it was just written");
    let file = path.file_name().unwrap_or_default();
    if file.to_string_lossy().ends_with(".safetensors") {
        tensors::twisted(dice, path);
    } else if file == MANIFEST && dice.bad() {
        let entry = json!({"bytes": 1, "sha256": ""});
        let name = *dice.pick(&["/dev/zero", "../../x", "", "model"]);
        std::fs::write(path, json!({name: entry}).to_string()).expect("it was just written");
    } else {
        let bytes = match serde_json::from_slice::<Value>(&whole) {
            Ok(value) => json::bytes(dice, value),
            Err(_) => dice.mangled(whole),
        };
        std::fs::write(path, bytes).expect("it was just written");
    }
}

fn rewritten(dice: &mut Dice, said: &mut Said) {
    let output = said.path("out.txt");
    dice.evenly(|dice| {
        for index in 0..2 {
            let name = format!("out.shard-{index}-of-2.txt");
            let lines = dice.mangled(b"a\nb\n".to_vec());
            said.write(&name, lines);
            let record = json!({"input_lines": dice.or_number(4), "shard": format!("{index}/2"), "batch_size": dice.or_number(1), "seed": 0});
            let record = json::bytes(dice, record);
            said.write(&format!("{name}.run.json"), record);
        }
    });
    if said.hear(merge(&output)).is_none() {
        assert!(!output.exists(), "a refused merge leaves no file");
    }
}
