//! Tar shards of training and of evaluation, and shards of embeddings beside them.

use crate::{Dice, Said, arrays, json, pictures};
use clip_burn::data::webdataset::{EmbeddingShards, IndexCache, ShardConfig, ShardSource, samples};
use clip_burn::data::{CaptionField, CaptionKind, Source};
use clip_burn::eval::datasets::caption::caption_shards;
use clip_burn::eval::datasets::{WebDataset, webdataset};
use serde_json::json;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let images = tar(dice, &["jpg", "txt", "json", "cls", "npy"]);
    let shard = said.write("test/0.tar", &images);
    let sibling = tar(dice, &["short", "long"]);
    said.write("test/0_text_embeddings.tar", &sibling);
    let count = dice.or_number(1).to_string();
    let count = dice.or_text(&count);
    said.write("test/nshards.txt", count);
    let kind = *dice.pick(&["classification", "retrieval", "multilabel"]);
    said.write("dataset_type.txt", dice.or_text(kind));
    let names = dice.or_text("cat\ndog");
    said.write("classnames.txt", names);

    said.hear(samples(&shard));
    let pattern = shard.display().to_string();
    let config = ShardConfig {
        json_fields: vec![CaptionField::new("caption", CaptionKind::Synthetic)],
        text_lines: dice.bad(),
        extra: vec!["npy".into()],
        label_key: Some("cls".into()),
        max_bad: 1.0,
        index_cache: IndexCache::Beside,
        ..ShardConfig::new(&pattern)
    };
    read(said, &config);
    read(said, &config); // the index that lies beside it now
    let index = said.path("test/0.tar.index.json");
    if let Ok(text) = std::fs::read_to_string(&index)
        && let Ok(value) = serde_json::from_str(&text)
    {
        let text = json::bytes(dice, value);
        std::fs::write(&index, text).expect("it was written before");
        read(said, &config);
    }
    let embeddings = EmbeddingShards {
        fields: vec!["short".into(), "long".into()],
        ..EmbeddingShards::default()
    };
    read(
        said,
        &ShardConfig {
            embeddings: Some(embeddings),
            index_cache: IndexCache::None,
            ..config
        },
    );

    let root = said.path("");
    if let Some(data) = said.hear_in(webdataset("wds/x", &root, "test"), &["data set wds/x"]) {
        let images = match data {
            WebDataset::Classification(data) => data.images,
            WebDataset::Retrieval(data) => data.images,
        };
        for image in images.iter().take(3) {
            said.hear(image.decode());
        }
    }
    said.hear_in(
        caption_shards("test/0.tar", &root, "caption"),
        &["no sample of `test/0.tar`"],
    );
    if dice.bad() {
        let pattern = pattern_of(dice);
        said.hear_in(
            ShardSource::open(ShardConfig::new(&pattern)),
            &[pattern.as_str()],
        );
    }
}

fn read(said: &mut Said, config: &ShardConfig) {
    let Some(source) = said.hear(ShardSource::open(config.clone())) else {
        return;
    };
    for index in 0..source.len().min(4) {
        said.hear(source.multi_hot(index));
        if let Some(sample) = said.hear(source.get(index))
            && let Some(embeddings) = sample.embeddings
        {
            for field in ["short", "long", "none"] {
                said.hear(embeddings.read(field));
            }
        }
    }
}

/// A pattern of names of files that are not there.
fn pattern_of(dice: &mut Dice) -> String {
    let bound = |dice: &mut Dice| match dice.below(3) {
        0 => format!("-{}", dice.number() >> 1),
        1 => format!("{:0300}", dice.number() >> 1),
        _ => (dice.number() >> 1).to_string(),
    };
    let (from, to, step) = (bound(dice), bound(dice), bound(dice));
    match dice.below(5) {
        0 => format!("/absent/{{{from}..{to}..{step}}}.tar"),
        1 => format!("/absent/{{{from}..{to}}}.tar"),
        2 => "{a,b}".repeat(40),
        3 => format!("{}{}", "{".repeat(100_000), "}".repeat(100_000)),
        _ => format!("{{{}}}", vec!["{0..9999999}"; 30].join(",")),
    }
}

/// The members of some samples, and what else a tar can hold.
fn tar(dice: &mut Dice, extensions: &[&str]) -> Vec<u8> {
    let mut file = Vec::new();
    for sample in 0..1 + dice.below(4) {
        for extension in extensions {
            if dice.bad() {
                extra(dice, &mut file);
            }
            let name = format!("{sample:03}.{extension}");
            let name = dice.or_text(&name);
            let content = content(dice, extension);
            member(dice, &mut file, &name, b'0', &content);
        }
    }
    if !dice.bad() {
        file.extend([0; 1024]);
    }
    dice.mangled(file)
}

fn content(dice: &mut Dice, extension: &str) -> Vec<u8> {
    match extension {
        "jpg" => pictures::small(),
        "txt" if dice.bad() => dice.noise(30),
        "txt" => dice.or_text("a cat").into_bytes(),
        "json" => json::bytes(dice, json!({"caption": ["a cat", "a dog"], "width": 3})),
        "cls" => {
            let label = dice.or_number(1).to_string();
            dice.or_text(&label).into_bytes()
        }
        "npy" => arrays::npy(dice),
        _ => match dice.below(3) {
            0 => arrays::npy(dice),
            1 => dice.noise(16),
            _ => {
                let head = json!({"e": {"dtype": "F32", "shape": [dice.or_number(2)], "data_offsets": [0, dice.or_number(8)]}});
                let head = json::bytes(dice, head);
                let length = dice.or_number(head.len() as u64);
                [&length.to_le_bytes()[..], &head, &[0; 8]].concat()
            }
        },
    }
}

/// A member that readers must pass over or make sense of.
fn extra(dice: &mut Dice, file: &mut Vec<u8>) {
    let kind = *dice.pick(b"LKxgS1234567VNMX\0");
    let content = match kind {
        b'x' | b'g' => {
            let mut records = Vec::new();
            for _ in 0..1 + dice.below(3) {
                let key = *dice.pick(&[
                    "path",
                    "size",
                    "GNU.sparse.name",
                    "GNU.sparse.map",
                    "linkpath",
                    "mtime",
                ]);
                let number = dice.number().to_string();
                let value = dice.or_text(&number);
                let body = format!(" {key}={value}\n");
                let length = dice.or_number(body.len() as u64 + 2);
                records.extend(format!("{length}{body}").into_bytes());
            }
            records
        }
        _ => match dice.below(3) {
            0 => dice.text().into_bytes(),
            1 => dice.noise(600),
            _ => Vec::new(),
        },
    };
    member(dice, file, "././@LongLink", kind, &content);
}

fn member(dice: &mut Dice, file: &mut Vec<u8>, name: &str, kind: u8, content: &[u8]) {
    let mut header = [0u8; 512];
    let name = &name.as_bytes()[..name.len().min(100)];
    header[..name.len()].copy_from_slice(name);
    header[100..107].copy_from_slice(b"0000644");
    let size = dice.or_number(content.len() as u64);
    match size < 1 << 33 && !dice.bad() {
        true => header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes()),
        false => {
            header[124] = *dice.pick(&[0x80, 0xff, 0xc0]);
            header[128..136].copy_from_slice(&size.to_be_bytes());
        }
    }
    header[156] = kind;
    match dice.below(3) {
        0 => header[257..265].copy_from_slice(b"ustar  \0"),
        1 => header[257..265].copy_from_slice(b"ustar\x0000"),
        _ => {}
    }
    if dice.bad() {
        let at = 345 + dice.below(160);
        header[at] = *dice.pick(&[1, b'/', 0xff]);
    }
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = if dice.bad() {
        dice.number() as u32 & 0o777_777
    } else {
        sum
    };
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    file.extend(header);
    file.extend(content);
    let filled = file.len().next_multiple_of(512);
    file.resize(filled, 0);
}
