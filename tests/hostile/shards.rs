//! Tar shards of training and of evaluation, and shards of embeddings beside them.

mod content;
mod tar;

use crate::{Dice, Said, json};
use clip_burn::data::webdataset::{
    EmbeddingShards, IndexCache, ShardConfig, ShardSource, members, samples,
};
use clip_burn::data::{CaptionField, CaptionKind, Source};
use clip_burn::eval::datasets::caption::caption_shards;
use clip_burn::eval::datasets::{WebDataset, webdataset};
use std::path::Path;

/// What is hostile; all else is as writers write it.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Content,
    Names,
    Headers,
    Between,
    Siblings,
    Beside,
    Index,
    Pattern,
    Bytes,
}

const PLACES: &[Place] = &[
    Place::Content,
    Place::Content,
    Place::Content,
    Place::Names,
    Place::Headers,
    Place::Between,
    Place::Between,
    Place::Siblings,
    Place::Siblings,
    Place::Beside,
    Place::Index,
    Place::Index,
    Place::Pattern,
    Place::Bytes,
];

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let place = *dice.pick(PLACES);
    let here = !matches!(place, Place::Index | Place::Pattern);
    let shards = dice.only(here, |dice| write(dice, &*said, place));
    let text_lines = dice.below(2) == 0;
    let root = said.path("");
    let names = format!("test/{{0..{}}}.tar", shards - 1);
    for shard in 0..shards {
        let shard = said.path(&format!("test/{shard}.tar"));
        said.hear(members(&shard));
        said.hear(samples(&shard));
    }
    let config = ShardConfig {
        json_fields: vec![CaptionField::new("caption", CaptionKind::Synthetic)],
        text_lines,
        extra: vec!["npy".into()],
        label_key: Some("cls".into()),
        max_bad: 1.0,
        index_cache: IndexCache::Beside,
        ..ShardConfig::new(root.join(&names).display().to_string())
    };
    let samples = read(said, &config);
    let indexed = read(said, &config); // the index that lies beside it now
    assert_eq!(
        samples, indexed,
        "an index has other samples than its shard"
    );
    if place == Place::Index {
        dice.evenly(|dice| change_index(dice, &root.join("test/0.tar.index.json")));
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

    if let Some(data) = said.hear_in(webdataset("wds/x", &root, "test"), &["data set wds/x"]) {
        let images = match data {
            WebDataset::Classification(data) => data.images,
            WebDataset::Retrieval(data) => data.images,
        };
        for image in images.iter().take(3) {
            said.hear(image.decode());
        }
    }
    let none = format!("no sample of `{names}`");
    said.hear_in(caption_shards(&names, &root, "caption"), &[none.as_str()]);
    if place == Place::Pattern {
        let pattern = pattern_of(dice);
        said.hear_in(
            ShardSource::open(ShardConfig::new(&pattern)),
            &[pattern.as_str()],
        );
    }
}

/// Shards, their siblings and what lies beside them; how many shards.
fn write(dice: &mut Dice, said: &Said, place: Place) -> usize {
    let kind = *dice.pick(&["classification", "retrieval", "multilabel"]);
    let shards = 1 + dice.below(2);
    let (images, siblings) = content::make(dice, shards, place);
    for shard in 0..shards {
        let name = format!("test/{shard}.tar");
        said.write(&name, tar::archive(dice, &images[shard], place));
        let name = format!("test/{shard}_text_embeddings.tar");
        said.write(&name, tar::archive(dice, &siblings[shard], place));
    }
    dice.only(place == Place::Beside, |dice| {
        let count = dice.or_number(shards as u64).to_string();
        said.write("test/nshards.txt", dice.or_text(&count));
        said.write("dataset_type.txt", dice.or_text(kind));
        said.write("classnames.txt", dice.or_text("cat\ndog\n"));
        let templates = dice.or_text("a photo of a {c}.\na {c}\n");
        said.write("zeroshot_classification_templates.txt", templates);
    });
    shards
}

/// Reads some samples; how many there are.
fn read(said: &mut Said, config: &ShardConfig) -> Option<usize> {
    let source = said.hear(ShardSource::open(config.clone()))?;
    source.problems();
    source.reports();
    for index in 0..source.len().min(4) {
        said.hear(source.multi_hot(index));
        said.hear(source.url(index));
        if let Some(sample) = said.hear(source.get(index))
            && let Some(embeddings) = sample.embeddings
        {
            for field in ["short", "LONG"] {
                said.hear(embeddings.read(field));
            }
            assert!(embeddings.read("none").is_err(), "there is no such field");
        }
    }
    Some(source.len())
}

/// Changes what an index says of its shard.
fn change_index(dice: &mut Dice, path: &Path) {
    if let Ok(text) = std::fs::read_to_string(path)
        && let Ok(value) = serde_json::from_str(&text)
    {
        std::fs::write(path, json::bytes(dice, value)).expect("it was written before");
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
