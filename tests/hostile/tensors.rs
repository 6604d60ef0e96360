//! Safetensors files: checkpoints, their indices, embeddings, stores of vectors, and shares of both.

mod vectors;

use crate::{Dice, Said, json};
use clip_burn::clip::checkpoint::{canonical, read_state_dict};
use serde_json::{Value, json};
use std::path::Path;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    match dice.below(5) {
        0 => checkpoint(dice, said),
        1 => sharded(dice, said),
        2 => vectors::embeddings(dice, said),
        3 => vectors::shares(dice, said),
        _ => vectors::vectors(dice, said),
    }
}

/// Everything that a checkpoint holds, read as the loaders of models do.
pub fn read_all(said: &mut Said, path: &Path) {
    let Some(dict) = said.hear(read_state_dict(path)) else {
        return;
    };
    for (_, tensor) in dict.iter().take(30) {
        tensor.values();
        tensor.clone().transpose().values();
    }
    if let Some((_, dict)) = said.hear(canonical(dict, path)) {
        for (_, tensor) in dict.iter().take(30) {
            tensor.values();
        }
    }
}

/// A header and its values; the length of the header may lie.
fn file(dice: &mut Dice, header: Value, values: usize) -> Vec<u8> {
    let header = json::bytes(dice, header);
    let length = dice.or_number(header.len() as u64);
    let values = match dice.bad() {
        true => dice.noise(values),
        false => vec![0x3c; values], // about 0.01, or 1, in most types
    };
    dice.mangled([&length.to_le_bytes()[..], &header, &values].concat())
}

/// The same of a file that a writer made.
pub fn twisted(dice: &mut Dice, path: &Path) {
    let bytes = std::fs::read(path).expect("it was just written");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("it is ours");
    // What stands in the metadata is JSON itself.
    if let Some(Value::Object(metadata)) = header.get_mut("__metadata__") {
        for value in metadata.values_mut() {
            if let Some(inner) = value
                .as_str()
                .and_then(|text| serde_json::from_str(text).ok())
            {
                *value = json!(json::text(dice, inner));
            }
        }
    }
    let header = json::bytes(dice, header);
    let length = dice.or_number(header.len() as u64);
    let bytes = dice.mangled(
        [
            &length.to_le_bytes()[..],
            &header,
            &bytes[8 + length_of(&bytes)..],
        ]
        .concat(),
    );
    std::fs::write(path, bytes).expect("it was just written");
}

fn length_of(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize
}

/// Names by which the writers of checkpoints are known.
const SCHEMES: &[&[&str]] = &[
    &[
        "visual.class_embedding",
        "visual.proj",
        "logit_scale",
        "positional_embedding",
    ],
    &[
        "vision_model.embeddings.patch_embedding.weight",
        "visual_projection.weight",
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.encoder.layers.0.self_attn.k_proj.weight",
        "vision_model.encoder.layers.0.self_attn.v_proj.weight",
    ],
    &[
        "vision_model.head.probe",
        "vision_model.head.attention.in_proj_weight",
        "vision_model.head.attention.in_proj_bias",
        "text_model.head.weight",
    ],
    &[
        "visual.trunk.patch_embed.proj.weight",
        "visual.trunk.cls_token",
        "visual.trunk.pos_embed",
        "visual.trunk.blocks.0.attn.qkv.weight",
    ],
    &[
        "visual.blocks.0.attn.inner_attn_ln.weight",
        "text.logit_scale",
        "visual.blocks.0.attn.q_bias",
        "visual.cls_token",
    ],
    &[
        "visual.patch_embed.proj.weight",
        "image_projection",
        "visual.cls_token",
        "visual.blocks.0.norm1.weight",
    ],
];

/// Types of numbers that are read, and their bytes.
const TYPES: &[(&str, u64)] = &[
    ("F32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("F64", 8),
    ("I64", 8),
    ("I32", 4),
    ("I16", 2),
    ("I8", 1),
    ("U8", 1),
    ("BOOL", 1),
];

fn header(dice: &mut Dice) -> (Value, usize) {
    let names = *dice.pick(SCHEMES);
    let (mut fields, mut at) = (serde_json::Map::new(), 0u64);
    for name in names {
        let (dtype, size) = match dice.bad() {
            true => *dice.pick(&[("F8_E4M3", 1), ("F4", 1), ("C64", 8), ("U16", 2), ("X", 4)]),
            false => *dice.pick(TYPES),
        };
        let mut shape = vec![3u64, 2];
        if dice.bad() {
            shape = (0..dice.below(5)).map(|_| dice.or_number(2)).collect();
            if dice.below(2) == 0 {
                shape.push(0);
            }
        }
        let bytes = shape
            .iter()
            .fold(size, |bytes: u64, side| bytes.wrapping_mul(*side))
            .min(1 << 12);
        let end = dice.or_number(at + bytes);
        fields.insert(
            (*name).into(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [dice.or_number(at), end]}),
        );
        at += bytes;
    }
    (Value::Object(fields), at as usize)
}

fn checkpoint(dice: &mut Dice, said: &mut Said) {
    let bytes = dice.evenly(|dice| {
        let (header, values) = header(dice);
        file(dice, header, values)
    });
    let path = said.write("model.safetensors", bytes);
    read_all(said, &path);
}

fn sharded(dice: &mut Dice, said: &mut Said) {
    let of_part = dice.below(2) == 0;
    let (header, values) = dice.only(of_part, header);
    let names: Vec<String> = header
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    let bytes = dice.only(of_part, |dice| file(dice, header.clone(), values));
    said.write("part-1.safetensors", bytes);
    let index = dice.only(!of_part, |dice| {
        let files = names.iter().map(|name| {
            let file = json!(dice.or_text("part-1.safetensors"));
            (name.clone(), file)
        });
        let map: serde_json::Map<String, Value> = files.collect();
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        json::bytes(dice, index)
    });
    let path = said.write("model.safetensors.index.json", index);
    read_all(said, &path);
}
