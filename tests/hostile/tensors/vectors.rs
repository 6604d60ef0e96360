//! Embeddings, stores of vectors, and shares of both.

use super::{file, twisted};
use crate::{Dice, Said, json};
use clip_burn::data::store::{self, Row, Store, StoreInfo, StoreType, StoreWriter};
use clip_burn::eval::embedded::{Embedded, Shard, ShareNote, Work, merge};
use clip_burn::eval::features::{Features, IMAGE_FEATURES, TEXT_FEATURES};
use clip_burn::eval::images::ImageRef;
use clip_burn::eval::search::Index;
use serde_json::{Value, json};

pub fn embeddings(dice: &mut Dice, said: &mut Said) {
    let bytes = dice.evenly(embedded);
    let path = said.write("embeddings.safetensors", bytes);
    for side in [IMAGE_FEATURES, TEXT_FEATURES] {
        let Some(features) = said.hear(Features::open(&path, side)) else {
            continue;
        };
        said.hear_in(features.check_finite("row"), &["features: row"]);
        features.to_vec();
        if side == IMAGE_FEATURES {
            let image = ImageRef::File("a.jpg".into());
            said.hear_in(features.for_images(&[image]), &["no embedding of a.jpg"]);
        } else {
            said.hear_in(
                features.for_texts(&["a".into()]),
                &["no embedding of the text `a`"],
            );
        }
    }
    if let Some(index) = said.hear(Index::open(&path)) {
        let dim = index.features().dim();
        if let Some(query) = said.hear(Features::new(vec![0.5; dim], dim)) {
            said.hear(index.search(&query, 1 + dice.or_number(2) as usize % 1000));
        }
        index.image(0);
    }
}

/// A file of two images and two texts.
fn embedded(dice: &mut Dice) -> Vec<u8> {
    let (dtype, size) = *dice.pick(&[("F32", 4), ("F16", 2), ("BF16", 2)]);
    let (rows, dim, end) = (dice.or_number(2), dice.or_number(3), 6 * size);
    let header = json!({
        "__metadata__": {
            "image_paths": json::text(dice, json!(["a.jpg", "b.jpg"])),
            "texts": json::text(dice, json!(["a", "b"])),
            "image_stamps": json::text(dice, json!([[1, 2], [3, 4]])),
            "model": json::text(dice, json!({"name": "x", "identity": null, "options": {}})),
            "made_in": dice.or_text("/"),
        },
        "image_features": {"dtype": dtype, "shape": [rows, dim], "data_offsets": [0, end]},
        "text_features": {"dtype": "F32", "shape": [2, 3], "data_offsets": [end, end + 24]},
    });
    let values = end as usize + 24;
    file(dice, header, values)
}

pub fn shares(dice: &mut Dice, said: &mut Said) {
    let whole = said.path("e.safetensors");
    let work = Work {
        images: 3,
        texts: 2,
        batch_size: 1,
        list: "x".into(),
        model: "y".into(),
        options: Default::default(),
    };
    let hostile = dice.below(2);
    for index in 0..2 {
        let shard = Shard::new(index, 2).expect("one of two");
        let note = ShareNote::new(shard, &work, Vec::new());
        let (images, texts) = (work.images_of(shard).len(), work.texts_of(shard).len());
        let share = Embedded {
            embed_dim: 2,
            float: Default::default(),
            images: vec![1.0; 2 * images],
            image_paths: vec!["a".into(); images],
            text_features: vec![1.0; 2 * texts],
            texts: vec!["t".into(); texts],
            scale: 1.0,
        };
        let path = shard.path(&whole);
        share.save(&path, Some(&note)).expect("a new file");
        dice.only(index == hostile, |dice| twisted(dice, &path));
        said.hear(ShareNote::find(&path, shard, &work));
    }
    if said.hear(merge(&whole)).is_some() {
        // What was put together can be read.
        said.hear(Features::open(&whole, IMAGE_FEATURES))
            .expect("a whole file");
        said.hear(Features::open(&whole, TEXT_FEATURES))
            .expect("a whole file");
    } else {
        assert!(!whole.exists(), "a refused merge leaves no file");
    }
}

pub fn vectors(dice: &mut Dice, said: &mut Said) {
    let folder = said.path("store");
    let info = StoreInfo {
        llm: "x".into(),
        llm_path: "y".into(),
        width: 2,
        dtype: *dice.pick(&[StoreType::F32, StoreType::Bf16]),
        fields: vec!["short".into(), "long".into()],
        samples: 3,
        part: 2,
    };
    let writer = StoreWriter::open(&folder, info.clone()).expect("a new folder");
    for part in 0..writer.parts() {
        let row = |row: usize| Row {
            key: row.to_string(),
            captions: vec![Some(format!("caption {row}")), None],
        };
        let rows: Vec<Row> = writer.samples(part).map(row).collect();
        writer
            .write(part, &rows, &vec![0.5; 2 * rows.len()])
            .expect("a new file");
    }
    let shared = dice.below(3) == 0;
    let work = store::StoreWork {
        info,
        list: "x".into(),
        options: Default::default(),
    };
    let (index, share) = (folder.join(store::INDEX), Shard::WHOLE);
    let note = share.path(&index);
    match shared {
        true => writer.finish_share(share, &work, 0).expect("a new file"),
        false => drop(writer.finish().expect("a new file")),
    }
    let of_part = dice.below(2) == 0;
    dice.only(of_part, |dice| {
        twisted(dice, &folder.join("00000.safetensors"));
    });
    let json = if shared { &note } else { &index };
    let value: Value = serde_json::from_slice(&std::fs::read(json).expect("it was just written"))
        .expect("it is ours");
    let changed = dice.only(!of_part, |dice| json::bytes(dice, value.clone()));
    std::fs::write(json, changed).expect("it was just written");
    let store = match shared {
        true => said.hear(store::merge(&folder)).map(|merged| merged.store),
        false => said.hear(Store::open(&folder)),
    };
    if let Some(store) = store {
        for row in ["0", "1", "2", "absent"] {
            store.row(row);
            said.hear(store.find(&format!("caption {row}")));
        }
    }
}
