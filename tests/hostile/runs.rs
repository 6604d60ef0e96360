//! Folders of runs: checkpoints of training, and the records of rewriting.

use crate::{Dice, Said, json};
use burn::tensor::TensorData;
use clip_burn::laclip::rewrite::merge;
use clip_burn::train::Start;
use clip_burn::train::checkpoint::{CheckpointConfig, Checkpoints, Progress, Saved, State};
use serde_json::{Value, json};

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
        "manifest.json",
        "state.json",
        "weights.json",
        "weights.safetensors",
        "optimizer.safetensors",
        "recipe.toml",
    ]);
    let path = dir.join(file);
    if file == "weights.json" {
        let stored = json!({"b": {"file": dice.or_text("../weights.safetensors"), "tensor": dice.or_text("a"), "shape": [dice.or_number(2), 3]}});
        std::fs::write(&path, json::bytes(dice, stored)).expect("a new file");
    }
    let bytes = std::fs::read(&path).expect("it was just written");
    let bytes = match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) => json::bytes(dice, value),
        Err(_) => dice.mangled(bytes),
    };
    std::fs::write(&path, bytes).expect("it was just written");
    if file == "manifest.json" && dice.bad() {
        let entry = json!({"bytes": 1, "sha256": ""});
        let name = *dice.pick(&["/dev/zero", "../../x", "", "model"]);
        std::fs::write(&path, json!({name: entry}).to_string()).expect("it was just written");
    }
    said.hear(checkpoints.find(&Start::Latest));
    said.hear(checkpoints.find(&Start::Checkpoint(dir.clone())));
    said.hear_in(Saved::read(&dir), crate::said::OTHER);
    checkpoints.clean();
    checkpoints.all();
}

fn rewritten(dice: &mut Dice, said: &mut Said) {
    let output = said.path("out.txt");
    for index in 0..2 {
        let name = format!("out.shard-{index}-of-2.txt");
        let lines = dice.mangled(b"a\nb\n".to_vec());
        said.write(&name, lines);
        let record = json!({"input_lines": dice.or_number(4), "shard": format!("{index}/2"), "batch_size": dice.or_number(1), "seed": 0});
        let record = json::bytes(dice, record);
        said.write(&format!("{name}.run.json"), record);
    }
    if said.hear(merge(&output)).is_none() {
        assert!(!output.exists(), "a refused merge leaves no file");
    }
}
