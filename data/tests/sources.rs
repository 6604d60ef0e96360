//! Sources against the Python libraries and against each other.
//!
//! Fixtures: `tests/fixtures/loader`, made by `tests/reference/loader.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data::csv::{CsvConfig, CsvSource};
use data::folder::{FolderConfig, FolderSource};
use data::jsonl::{JsonlConfig, JsonlSource};
use data::webdataset::{ShardConfig, ShardSource, expand};
use data::{CaptionField, CaptionKind, Loader, LoaderOptions, Sample, Sampler, Source};
use serde_json::{Map, Value};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/loader")
        .join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

#[test]
fn patterns_expand_as_in_braceexpand() {
    let Value::Object(patterns) = json("braces.json") else {
        panic!("an object")
    };
    for (pattern, names) in patterns {
        assert_eq!(Value::from(expand(&pattern).unwrap()), names, "{pattern}");
    }
}

#[test]
fn a_shard_has_the_samples_that_webdataset_reads() {
    let config = ShardConfig {
        root: Some(fixture("")),
        extra: vec!["seg.png".into()],
        require_caption: false,
        ..ShardConfig::new("shard.tar")
    };
    let source = ShardSource::open(config).unwrap();
    let Value::Array(expected) = json("shard.json") else {
        panic!("a list")
    };
    assert_eq!(source.len(), expected.len());
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(source.get(index).unwrap().key, expected["key"]);
        for (extension, data) in expected["members"].as_object().unwrap() {
            let (_, _, bytes) = source.member(index, extension).unwrap();
            // The script wrote bytes as Latin-1.
            let text: String = bytes.into_iter().map(char::from).collect();
            assert_eq!(text, data.as_str().unwrap(), "{index} {extension}");
        }
    }
}

/// The same samples as shards, as a table, as annotations and as a folder of classes.
fn the_same_data() -> (tempfile::TempDir, Vec<Box<dyn Source>>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut table = String::from("filepath\ttitle\tlong\tclass\n");
    let mut lines = String::new();
    let mut shards: Vec<_> = (0..3)
        .map(|i| tar::Builder::new(fs::File::create(root.join(format!("{i}.tar"))).unwrap()))
        .collect();
    for i in 0..30usize {
        let (class, name) = (i / 10, format!("{}/{i:02}", ["a", "b", "c"][i / 10]));
        let image = vec![i as u8; 100 + i];
        let (web, long) = (format!("web {i}, \"quoted\" ü"), format!("long\n{i}"));
        fs::create_dir_all(root.join("images").join(&name).parent().unwrap()).unwrap();
        fs::write(root.join("images").join(format!("{name}.jpg")), &image).unwrap();
        let quoted = web.replace('"', "\"\"");
        table += &format!("{name}.jpg\t\"{quoted}\"\t\"{long}\"\t{class}\n");
        let line = serde_json::json!({"image": format!("{name}.jpg"), "caption": web, "long": long, "class": class});
        lines += &format!("{line}\n");
        let members: [(&str, Vec<u8>); 4] = [
            ("jpg", image),
            ("txt", web.into_bytes()),
            (
                "json",
                serde_json::json!({ "long": long }).to_string().into_bytes(),
            ),
            ("cls", class.to_string().into_bytes()),
        ];
        for (extension, data) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            shards[class]
                .append_data(&mut header, format!("{name}.{extension}"), &data[..])
                .unwrap();
        }
    }
    shards.iter_mut().for_each(|shard| shard.finish().unwrap());
    fs::write(root.join("a.tsv"), table).unwrap();
    fs::write(root.join("a.jsonl"), lines).unwrap();

    let images = Some(root.join("images"));
    let long = CaptionField::new("long", CaptionKind::Synthetic);
    let csv: Map<String, Value> = serde_json::from_value(serde_json::json!({
        "path": root.join("a.tsv"),
        "root": images,
        "captions": [{"column": "title"}, {"column": 2, "kind": "synthetic"}],
        "label": "class",
    }))
    .unwrap();
    let csv: CsvConfig = serde_json::from_value(Value::Object(csv)).unwrap();
    let jsonl = JsonlConfig {
        root: images.clone(),
        captions: vec![CaptionField::new("caption", CaptionKind::Web), long.clone()],
        label: Some("class".into()),
        ..JsonlConfig::new(root.join("a.jsonl"))
    };
    let shards = ShardConfig {
        root: Some(root.to_path_buf()),
        json_fields: vec![long],
        label_key: Some("cls".into()),
        ..ShardConfig::new("{0..2}.tar")
    };
    let images = FolderConfig {
        templates: Vec::new(),
        ..FolderConfig::new(root.join("images"))
    };
    let sources: Vec<Box<dyn Source>> = vec![
        Box::new(ShardSource::open(shards).unwrap()),
        Box::new(CsvSource::open(csv).unwrap()),
        Box::new(JsonlSource::open(jsonl).unwrap()),
        Box::new(FolderSource::open(images).unwrap()),
    ];
    (folder, sources)
}

#[test]
fn all_sources_give_the_same_samples() {
    let (_folder, sources) = the_same_data();
    let samples = |source: &dyn Source| -> Vec<Sample> {
        let named = (0..source.len()).map(|index| source.get(index).unwrap());
        named
            .map(|mut s| {
                s.key = s.key.replace(".jpg", "");
                // What the field of the web caption is called differs; that of the long one does not.
                let fields = std::mem::take(&mut s.captions.fields);
                assert!(s.captions.synthetic.is_empty() || fields[2] == ["long"]);
                s
            })
            .collect()
    };
    let [shards, csv, jsonl, folder] = sources.as_slice() else {
        panic!("four sources")
    };
    let expected = samples(shards.as_ref());
    assert_eq!(expected[12].captions.web, ["web 12, \"quoted\" ü"]);
    assert_eq!(expected[12].captions.synthetic, ["long\n12"]);
    assert_eq!(samples(csv.as_ref()), expected);
    assert_eq!(samples(jsonl.as_ref()), expected);
    let without_captions: Vec<_> = expected
        .into_iter()
        .map(|s| Sample {
            captions: Default::default(),
            ..s
        })
        .collect();
    assert_eq!(samples(folder.as_ref()), without_captions);
}

#[test]
fn the_loader_gives_the_same_stream_from_all_sources() {
    let (_folder, sources) = the_same_data();
    let mut streams = sources.into_iter().map(|source| {
        let sampler = Sampler::shuffled(source.len(), 4);
        let options = LoaderOptions {
            epochs: Some(2),
            ..LoaderOptions::new(7, 2)
        };
        let source: Arc<dyn Source> = Arc::new(source);
        let batches = Loader::new(source, sampler, options, |samples: Vec<Sample>, _| {
            Ok(samples
                .into_iter()
                .map(|sample| sample.image)
                .collect::<Vec<_>>())
        });
        batches.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    });
    let first = streams.next().unwrap();
    assert_eq!(first.len(), 8);
    assert!(streams.all(|stream| stream == first));
}
