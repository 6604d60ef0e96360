//! Whole shards: what is read, and what happens when they are damaged.

use std::fs;
use std::path::Path;

use super::*;
use crate::captions::CaptionField;
use tempfile::TempDir;

/// Writes an archive of members.
fn write_tar(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut builder = ::tar::Builder::new(fs::File::create(path).unwrap());
    for (name, data) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, data.as_slice())
            .unwrap();
    }
    builder.finish().unwrap();
}

/// The members of sample `i`: image, caption, JSON and class.
fn members(i: usize) -> Vec<(String, Vec<u8>)> {
    let json = format!(r#"{{"raw_caption": "raw {i}", "longSV_captions": "long {i}"}}"#);
    vec![
        (
            format!("{i:04}.jpg"),
            format!("image {i}").repeat(100).into_bytes(),
        ),
        (format!("{i:04}.txt"), format!("caption {i}").into_bytes()),
        (format!("{i:04}.json"), json.into_bytes()),
        (format!("{i:04}.cls"), format!("{i}\n").into_bytes()),
    ]
}

/// Shards `0.tar`, `1.tar`, ... of ten samples each.
fn shards(n: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for shard in 0..n {
        let all: Vec<_> = (shard * 10..shard * 10 + 10).flat_map(members).collect();
        write_tar(&folder.path().join(format!("{shard}.tar")), &all);
    }
    folder
}

fn config(folder: &TempDir, pattern: &str) -> ShardConfig {
    ShardConfig {
        root: Some(folder.path().into()),
        ..ShardConfig::new(pattern)
    }
}

fn keys(source: &ShardSource) -> Vec<usize> {
    (0..source.len())
        .map(|i| source.get(i).unwrap().key.parse().unwrap())
        .collect()
}

#[test]
fn samples_are_read_whole_and_in_order() {
    let folder = shards(3);
    let full = ShardConfig {
        json_fields: vec![
            CaptionField::new("raw_caption", CaptionKind::Web),
            CaptionField::new("longSV_captions", CaptionKind::Synthetic),
        ],
        label_key: Some("cls".into()),
        ..config(&folder, "{0..2}.tar")
    };
    let source = ShardSource::open(full).unwrap();
    assert!(source.problems().is_empty());
    assert_eq!(source.shard_lens(), [10, 10, 10]);
    assert_eq!(keys(&source), (0..30).collect::<Vec<_>>());
    let sample = source.get(17).unwrap();
    assert_eq!(sample.image, "image 17".repeat(100).into_bytes());
    assert_eq!(sample.captions.web, ["caption 17", "raw 17"]);
    assert_eq!(sample.captions.synthetic, ["long 17"]);
    assert_eq!(sample.label, Some(17));
    assert!(
        source
            .get(30)
            .unwrap_err()
            .to_string()
            .contains("sample 30")
    );
}

#[test]
fn shards_among_thousands_that_are_not_there_are_found_and_those_counted() {
    let folder = shards(1);
    let far = folder.path().join(format!("{}.tar", 2 * AT_ONCE + 5));
    fs::copy(folder.path().join("0.tar"), far).unwrap();
    let last = 3 * AT_ONCE - 1;
    let config = ShardConfig {
        max_bad: 1.0,
        ..config(&folder, &format!("{{0..{last}}}.tar"))
    };
    let source = ShardSource::open(config).unwrap();
    assert_eq!(source.shard_lens(), [10, 10]);
    assert_eq!(
        keys(&source),
        [(0..10), (0..10)].into_iter().flatten().collect::<Vec<_>>()
    );
    assert_eq!(source.problems().count(), 3 * AT_ONCE - 2);
    assert_eq!(source.problems().iter().count(), Problems::KEPT);
    let first = source.problems().iter().next().unwrap();
    assert!(first.path.ends_with("1.tar"), "{first}");
}

#[test]
fn a_cached_index_gives_the_same_samples() {
    let folder = shards(1);
    let cached = ShardConfig {
        index_cache: IndexCache::Beside,
        ..config(&folder, "0.tar")
    };
    let first = ShardSource::open(cached.clone()).unwrap();
    assert!(folder.path().join("0.tar.index.json").exists());
    let second = ShardSource::open(cached).unwrap();
    assert!((0..10).all(|i| first.get(i).unwrap() == second.get(i).unwrap()));
}

#[test]
fn an_unreadable_shard_among_good_ones_is_left_out_and_named() {
    let folder = shards(3);
    fs::write(
        folder.path().join("1.tar"),
        "this is not an archive".repeat(100),
    )
    .unwrap();
    let strict = config(&folder, "{0..2}.tar");
    let error = ShardSource::open(strict.clone()).unwrap_err().to_string();
    assert!(
        error.contains("1 of 3 shards")
            && error.contains("1.tar")
            && error.contains("no tar archive"),
        "{error}"
    );
    for damage in ["missing", "empty", "gzip"] {
        let path = folder.path().join("1.tar");
        let expected = match damage {
            "missing" => {
                fs::remove_file(&path).unwrap();
                "No such file"
            }
            "empty" => {
                fs::write(&path, "").unwrap();
                "empty"
            }
            _ => {
                fs::write(&path, [0x1f, 0x8b, 8, 0]).unwrap();
                "gunzip"
            }
        };
        let source = ShardSource::open(ShardConfig {
            max_bad: 0.4,
            ..strict.clone()
        })
        .unwrap();
        assert_eq!(keys(&source), (0..10).chain(20..30).collect::<Vec<_>>());
        let problem = source.problems().iter().next().unwrap().to_string();
        assert!(
            problem.contains("1.tar") && problem.contains(expected),
            "{problem}"
        );
    }
}

#[test]
fn a_truncated_shard_keeps_its_whole_samples() {
    let folder = shards(2);
    let path = folder.path().join("0.tar");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let source = ShardSource::open(ShardConfig {
        max_bad: 0.5,
        ..config(&folder, "{0..1}.tar")
    })
    .unwrap();
    let kept = source.shard_lens()[0];
    assert!((3..=5).contains(&kept), "{kept}");
    assert_eq!(keys(&source), (0..kept).chain(10..20).collect::<Vec<_>>());
    assert!(
        source
            .problems()
            .iter()
            .any(|p| p.to_string().contains("cut off"))
    );
}

#[test]
fn a_damaged_header_costs_one_sample() {
    let folder = shards(1);
    let path = folder.path().join("0.tar");
    let mut bytes = fs::read(&path).unwrap();
    let header = bytes.windows(8).position(|w| w == b"0004.jpg").unwrap();
    bytes[header + 30] ^= 1;
    fs::write(&path, bytes).unwrap();
    let source = ShardSource::open(ShardConfig {
        max_bad: 1.0,
        ..config(&folder, "0.tar")
    })
    .unwrap();
    assert_eq!(keys(&source), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    let told: Vec<_> = source.problems().iter().map(|p| p.to_string()).collect();
    assert!(
        told[0].contains("damaged header") && told[1].contains("0004: the sample has no image"),
        "{told:?}"
    );
}

#[test]
fn samples_without_image_or_caption_are_dropped_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<_> = (0..4).flat_map(members).collect();
    all.retain(|(name, _)| name != "0001.jpg" && name != "0002.txt");
    all.push(("0003b.PNG".into(), vec![1]));
    all.push(("0003b.txt".into(), b" \n".to_vec()));
    write_tar(&folder.path().join("0.tar"), &all);
    let source = ShardSource::open(ShardConfig {
        max_bad: 0.5,
        ..config(&folder, "0.tar")
    })
    .unwrap();
    assert_eq!((source.len(), source.problems().count()), (3, 2));
    // That a caption is blank is seen when it is read.
    assert!(
        source
            .get(2)
            .unwrap_err()
            .to_string()
            .contains("0003b: all captions are empty")
    );
    assert!(ShardSource::open(config(&folder, "0.tar")).is_err());
}

#[test]
fn broken_members_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = members(0);
    all[2].1 = b"{ no json".to_vec();
    all[3].1 = b"cat".to_vec();
    write_tar(&folder.path().join("0.tar"), &all);
    let json = ShardConfig {
        json_fields: vec![
            CaptionField::new("raw_caption", CaptionKind::Web),
            CaptionField::new("longSV_captions", CaptionKind::Synthetic),
        ],
        ..config(&folder, "0.tar")
    };
    let error = ShardSource::open(json)
        .unwrap()
        .get(0)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("0.tar, member 0000") && error.contains("no JSON object"),
        "{error}"
    );
    let labels = ShardConfig {
        label_key: Some("cls".into()),
        ..config(&folder, "0.tar")
    };
    let error = ShardSource::open(labels)
        .unwrap()
        .get(0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("label is `cat`"), "{error}");
}

#[test]
fn a_shard_cut_after_indexing_is_an_error_not_a_wrong_sample() {
    let folder = shards(1);
    let source = ShardSource::open(config(&folder, "0.tar")).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join("0.tar"))
        .unwrap();
    file.set_len(3000).unwrap();
    assert!(source.get(0).is_ok());
    let error = source.get(9).unwrap_err().to_string();
    assert!(error.contains("0.tar, member 0009"), "{error}");
}

#[test]
fn embeddings_are_found_by_key_in_any_order() {
    let folder = shards(1);
    let vector = |i: usize, field: f32| {
        [i as f32, field]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let rows = |order: &mut dyn Iterator<Item = usize>| -> Vec<(String, Vec<u8>)> {
        order
            .flat_map(|i| {
                let name = |field: &str| format!("{i:04}.{field}");
                [
                    (name("shortSV_captions"), vector(i, 0.5)),
                    (name("longSV_captions"), vector(i, 1.5)),
                ]
            })
            .collect()
    };
    let embeddings = Some(EmbeddingShards::default());
    let with = ShardConfig {
        embeddings,
        max_bad: 0.3,
        ..config(&folder, "0.tar")
    };
    let sibling = folder.path().join("0_text_embeddings.tar");
    let missing = ShardSource::open(with.clone()).unwrap_err().to_string();
    assert!(missing.contains("0_text_embeddings.tar"), "{missing}");

    for order in [(0..10).collect::<Vec<_>>(), (0..10).rev().collect()] {
        write_tar(&sibling, &rows(&mut order.into_iter()));
        let source = ShardSource::open(with.clone()).unwrap();
        let stored = source.get(3).unwrap().embeddings.unwrap();
        let fields: Vec<_> = stored.fields();
        assert_eq!(fields, ["shortSV_captions", "longSV_captions"]);
        assert_eq!(stored.read("shortSV_captions").unwrap(), [3.0, 0.5]);
        assert_eq!(stored.read("LongSV_captions").unwrap(), [3.0, 1.5]);
        let error = stored.read("raw_caption").unwrap_err().to_string();
        assert!(
            error.contains("member 0003") && error.contains("there are shortSV_captions, longSV"),
            "{error}"
        );
    }
    // Samples without an embedding are dropped; the others keep theirs.
    write_tar(&sibling, &rows(&mut (0..8)));
    let source = ShardSource::open(with.clone()).unwrap();
    assert_eq!((source.len(), source.problems().count()), (8, 2));
    let stored = source.get(7).unwrap().embeddings.unwrap();
    assert_eq!(stored.read("shortSV_captions").unwrap()[0], 7.0);
    // A field that is missing or not a number is not taken for an embedding.
    let mut broken = rows(&mut (0..10));
    broken[1].1 = f32::NAN.to_le_bytes().repeat(2);
    broken.remove(5);
    write_tar(&sibling, &broken);
    let source = ShardSource::open(with).unwrap();
    assert_eq!(source.len(), 9);
    let stored = source.get(0).unwrap().embeddings.unwrap();
    assert!(stored.read("shortSV_captions").is_ok());
    let error = stored.read("longSV_captions").unwrap_err().to_string();
    assert!(error.contains("NaN"), "{error}");
}

#[test]
fn a_json_field_that_is_nowhere_is_an_error_that_names_it() {
    let folder = shards(1);
    let with = |field: &str| ShardConfig {
        json_fields: vec![CaptionField::new(field, CaptionKind::Rewrite)],
        ..config(&folder, "0.tar")
    };
    let error = ShardSource::open(with("rewrites")).unwrap_err().to_string();
    assert!(
        error.contains("`0.tar`")
            && error.contains("no field `rewrites` in any of the 10")
            && error.contains("longSV_captions, raw_caption"),
        "{error}"
    );
    assert!(ShardSource::open(with("raw_caption")).is_ok());
}

#[test]
fn shards_report_their_captions_and_what_is_lost() {
    let folder = shards(2);
    let second = folder.path().join("1.tar");
    let bytes = fs::read(&second).unwrap();
    // Without the end mark, and the JSON and class of the last sample.
    fs::write(&second, &bytes[..bytes.len() - 1024 - 2 * 1024]).unwrap();
    let config = ShardConfig {
        json_fields: vec![CaptionField::new("longSV_captions", CaptionKind::Synthetic)],
        max_bad: 0.5,
        ..config(&folder, "{0..1}.tar")
    };
    let source = ShardSource::open(config.clone()).unwrap();
    let report = source.reports()[0].to_string();
    let said = "20 samples; in them 20 web captions, 0 rewrites, 19 synthetic captions; left out: 1 × the archive has \
                no end mark";
    assert!(
        report.contains(said) && report.contains("1.tar, byte"),
        "{report}"
    );
    let strict = ShardConfig {
        max_bad: 0.4,
        ..config
    };
    let error = ShardSource::open(strict).unwrap_err().to_string();
    assert!(error.contains("1 of 2 shards"), "{error}");
}

#[test]
fn an_evaluation_folder_is_read_by_its_layout() {
    let root = tempfile::tempdir().unwrap();
    let test = root.path().join("test");
    fs::create_dir(&test).unwrap();
    assert!(
        BenchmarkLayout::read(root.path(), "test")
            .unwrap_err()
            .to_string()
            .contains("nshards.txt")
    );
    fs::write(test.join("nshards.txt"), "9000000\n").unwrap();
    let missing = BenchmarkLayout::read(root.path(), "test")
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("nshards.txt") && missing.contains("8999999.tar is not there"),
        "{missing}"
    );
    fs::write(test.join("nshards.txt"), "1\n").unwrap();
    fs::write(root.path().join("classnames.txt"), "cat\ndog\n").unwrap();
    let two = [
        ("s0000000.webp", "x"),
        ("s0000000.txt", "one\\nline\ntwo"),
        ("s0000000.cls", "1"),
    ];
    let mut two: Vec<_> = two
        .iter()
        .map(|(n, d)| (n.to_string(), d.as_bytes().to_vec()))
        .collect();
    two.push((
        "s0000000.npy".into(),
        npy::tests::npy("|b1", "(3,)", &[1, 0, 1]),
    ));
    write_tar(&test.join("0.tar"), &two);

    let layout = BenchmarkLayout::read(root.path(), "test").unwrap();
    assert_eq!(layout.class_names.unwrap(), ["cat", "dog"]);
    assert_eq!(
        (layout.dataset_type, layout.templates),
        (DatasetType::Classification, None)
    );
    assert_eq!(
        ShardSource::open(layout.shards)
            .unwrap()
            .get(0)
            .unwrap()
            .label,
        Some(1)
    );

    fs::write(root.path().join("dataset_type.txt"), "retrieval").unwrap();
    let layout = BenchmarkLayout::read(root.path(), "test").unwrap();
    assert_eq!(
        ShardSource::open(layout.shards)
            .unwrap()
            .get(0)
            .unwrap()
            .captions
            .web,
        ["one\nline", "two"]
    );

    fs::write(root.path().join("dataset_type.txt"), "multilabel").unwrap();
    let layout = BenchmarkLayout::read(root.path(), "test").unwrap();
    assert_eq!(
        ShardSource::open(layout.shards)
            .unwrap()
            .multi_hot(0)
            .unwrap(),
        [0, 2]
    );

    fs::write(root.path().join("dataset_type.txt"), "poetry").unwrap();
    assert!(
        BenchmarkLayout::read(root.path(), "test")
            .unwrap_err()
            .to_string()
            .contains("poetry")
    );
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let nothing = ShardConfig {
        text_key: None,
        ..ShardConfig::new("0.tar")
    };
    assert!(
        ShardSource::open(nothing)
            .unwrap_err()
            .to_string()
            .contains("text_key")
    );
    let remote = ShardSource::open(ShardConfig::new("https://example.org/0.tar"))
        .unwrap_err()
        .to_string();
    assert!(remote.contains("fetch = { directory"), "{remote}");
    let image = ShardConfig {
        image_keys: vec![],
        ..ShardConfig::new("0.tar")
    };
    assert!(ShardSource::open(image).is_err());
}

#[test]
fn addresses_are_those_of_the_json_member_where_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let member = |name: &str, data: &str| (name.to_owned(), data.as_bytes().to_vec());
    let all = [
        member("0.jpg", "image"),
        member("0.txt", "caption"),
        member("0.json", r#"{"url": "http://host/0.jpg"}"#),
        member("1.jpg", "image"),
        member("1.txt", "caption"),
        member("2.jpg", "image"),
        member("2.txt", "caption"),
        member("2.json", "no JSON"),
    ];
    write_tar(&folder.path().join("0.tar"), &all);
    let plain = ShardSource::open(config(&folder, "0.tar")).unwrap();
    assert_eq!(plain.url(0).unwrap(), None);
    let read = ShardConfig {
        extra: vec!["json".into()],
        ..config(&folder, "0.tar")
    };
    let source = ShardSource::open(read).unwrap();
    assert_eq!(source.url(0).unwrap().unwrap(), "http://host/0.jpg");
    assert_eq!(source.url(1).unwrap(), None);
    assert!(source.url(2).is_err() && source.get(2).is_ok());
}
