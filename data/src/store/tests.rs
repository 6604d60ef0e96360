use std::sync::Arc;

use super::*;
use crate::sample::{CaptionKind, Captions, Sample};
use crate::source::{Source, out_of_range};

/// Samples `k0`, `k1`, ... with a short and, but for every third, a long caption.
#[derive(Clone, Debug)]
struct Texts(Vec<String>);

impl Texts {
    fn new(n: usize) -> Self {
        Self((0..n).map(|i| format!("short {i}")).collect())
    }
}

impl Source for Texts {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let short = self.0.get(index).ok_or_else(|| out_of_range(self, index))?;
        let mut captions = Captions::default();
        captions.push(CaptionKind::Web, short);
        if !index.is_multiple_of(3) {
            captions.push(CaptionKind::Synthetic, format!("long {index}"));
        }
        Ok(Sample {
            key: format!("k{index}"),
            captions,
            ..Sample::default()
        })
    }

    fn name(&self) -> String {
        "texts".into()
    }
}

fn info(samples: usize, dtype: StoreType) -> StoreInfo {
    StoreInfo {
        llm: "abc".into(),
        llm_path: "models/abc".into(),
        width: 2,
        dtype,
        fields: vec!["web".into(), "synthetic".into()],
        samples,
        part: 4,
    }
}

/// The vector of a text: its number, and 1 for a long one.
fn vector(text: &str) -> [f32; 2] {
    let number = text.rsplit(' ').next().unwrap().parse().unwrap();
    [number, f32::from(text.starts_with("long"))]
}

/// Writes the files that are missing, `most` of them.
fn extract(
    folder: &Path,
    source: &Texts,
    info: StoreInfo,
    most: usize,
) -> Result<usize, DataError> {
    let writer = StoreWriter::open(folder, info.clone())?;
    let mut written = 0;
    for part in 0..writer.parts() {
        let rows: Vec<Row> = writer
            .samples(part)
            .map(|i| Row::of(&source.get(i).unwrap(), &info.fields))
            .collect();
        if written == most || writer.has(part, &rows)? {
            continue;
        }
        let texts = rows.iter().flat_map(|row| &row.captions).flatten();
        let vectors: Vec<f32> = texts.flat_map(|text| vector(text)).collect();
        writer.write(part, &rows, &vectors)?;
        written += 1;
    }
    writer.finish().map(|_| written)
}

#[test]
fn every_caption_of_a_sample_is_read_back_in_either_type() {
    for dtype in [StoreType::F32, StoreType::Bf16] {
        let folder = tempfile::tempdir().unwrap();
        let source = Texts::new(10);
        assert_eq!(
            extract(folder.path(), &source, info(10, dtype), 9).unwrap(),
            3
        );
        let store = Arc::new(Store::open(folder.path()).unwrap());
        assert_eq!(store.find("long 7").unwrap().unwrap(), [7.0, 1.0]);
        assert_eq!(store.find("long 6").unwrap(), None);
        let joined = WithStore::new(source, vec![store]).unwrap();
        joined.verify().unwrap();
        for index in 0..10 {
            let stored = joined.get(index).unwrap().embeddings.unwrap();
            assert_eq!(
                stored.read("WEB").unwrap(),
                vector(&format!("short {index}"))
            );
            let long = stored.read("synthetic");
            match index % 3 {
                0 => assert!(long.unwrap_err().to_string().contains("there are web")),
                _ => assert_eq!(long.unwrap(), vector(&format!("long {index}"))),
            }
        }
    }
}

#[test]
fn an_extraction_that_was_cut_goes_on_and_is_no_store_before_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let source = Texts::new(10);
    assert!(extract(folder.path(), &source, info(10, StoreType::F32), 2).is_err());
    let message = Store::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("not finished"), "{message}");
    assert_eq!(
        extract(folder.path(), &source, info(10, StoreType::F32), 9).unwrap(),
        1
    );
    assert_eq!(
        extract(folder.path(), &source, info(10, StoreType::F32), 9).unwrap(),
        0
    );
    // A file that was cut is noticed.
    let path = folder.path().join("00001.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(
        Store::open(folder.path())
            .unwrap_err()
            .to_string()
            .contains("00001")
    );
}

#[test]
fn a_changed_caption_another_model_and_another_source_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = Texts::new(10);
    extract(folder.path(), &source, info(10, StoreType::F32), 9).unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    source.0[5] = "short 55".into();
    // A look at the beginning finds it in a small source; in a large one the sample itself is refused.
    let joined = WithStore::new(source.clone(), vec![store.clone()]).unwrap_err();
    let later = WithStore::unchecked(source.clone(), vec![store.clone()]);
    for error in [
        joined,
        later.verify().unwrap_err(),
        later.get(5).unwrap_err(),
    ] {
        let message = error.to_string();
        assert!(
            message.contains("k5") && message.contains("`web`"),
            "{message}"
        );
    }
    let message = extract(folder.path(), &source, info(10, StoreType::F32), 9).unwrap_err();
    assert!(
        message.to_string().contains("00001.safetensors, row 1"),
        "{message}"
    );

    let other = StoreInfo {
        llm: "xyz".into(),
        ..info(10, StoreType::F32)
    };
    let message = extract(folder.path(), &Texts::new(10), other, 9)
        .unwrap_err()
        .to_string();
    assert!(message.contains("models/abc"), "{message}");
    let message = store
        .check_llm("xyz", Path::new("models/xyz"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("models/abc") && message.contains("models/xyz"),
        "{message}"
    );
    store.check_llm("abc", Path::new("anywhere")).unwrap();

    let message = WithStore::new(Texts::new(11), vec![store])
        .unwrap_err()
        .to_string();
    assert!(message.contains("`k10`"), "{message}");
}

fn work(info: StoreInfo) -> StoreWork {
    StoreWork {
        info,
        list: "l".into(),
        options: [("batch_size".to_string(), "8".to_string())].into(),
    }
}

/// Writes a share of a store of 10 samples in 3 files; of 4 shares the first is empty.
fn extract_share(folder: &Path, share: files::Shard, work: &StoreWork) {
    let (source, info) = (Texts::new(10), &work.info);
    let writer = StoreWriter::open(folder, info.clone()).unwrap();
    for part in share.range(writer.parts()) {
        let samples = writer.samples(part);
        let rows: Vec<Row> = samples
            .map(|i| Row::of(&source.get(i).unwrap(), &info.fields))
            .collect();
        let texts = rows.iter().flat_map(|row| &row.captions).flatten();
        let vectors: Vec<f32> = texts.flat_map(|text| vector(text)).collect();
        writer.write(part, &rows, &vectors).unwrap();
    }
    writer.finish_share(share, work, 1).unwrap();
}

#[test]
fn a_store_written_in_shares_is_the_one_written_in_one_go() {
    let one = tempfile::tempdir().unwrap();
    let info = info(10, StoreType::F32);
    extract(one.path(), &Texts::new(10), info.clone(), 9).unwrap();
    for of in [1, 2, 3, 4] {
        let folder = tempfile::tempdir().unwrap();
        for index in (0..of).rev() {
            let share = files::Shard::new(index, of).unwrap();
            extract_share(folder.path(), share, &work(info.clone()));
            assert!(
                Store::open(folder.path()).is_err(),
                "no store before the end"
            );
        }
        let merged = merge(folder.path()).unwrap();
        assert_eq!((merged.shares, merged.unread), (of, of));
        let content = |folder: &Path| {
            let entries = folder
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let mut files: Vec<_> = entries
                .map(|path| {
                    (
                        path.file_name().unwrap().to_owned(),
                        std::fs::read(path).unwrap(),
                    )
                })
                .collect();
            files.sort();
            files
        };
        assert_eq!(content(folder.path()), content(one.path()), "{of} shares");
    }
}

#[test]
fn shares_of_a_store_that_do_not_go_together_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mine = work(info(10, StoreType::F32));
    let share = |index| files::Shard::new(index, 3).unwrap();
    let refused = |said: &[&str]| {
        let message = merge(folder.path()).unwrap_err().to_string();
        assert!(said.iter().all(|word| message.contains(word)), "{message}");
        assert!(!folder.path().join(INDEX).exists());
    };
    refused(&["no shares"]);
    extract_share(folder.path(), share(0), &mine);
    extract_share(folder.path(), share(2), &mine);
    refused(&["1 of 3 shares", "store.shard-1-of-3.json (--shard 1/3)"]);
    let mut other = mine.clone();
    other.list = "m".into();
    other.options.insert("batch_size".into(), "9".into());
    extract_share(folder.path(), share(1), &other);
    let writer = StoreWriter::open(folder.path(), mine.info.clone()).unwrap();
    writer.check_share(share(0), &mine).unwrap();
    let message = writer.check_share(share(1), &mine).unwrap_err().to_string();
    assert!(
        message.contains("store.shard-1-of-3.json: this share"),
        "{message}"
    );
    refused(&[
        "store.shard-1-of-3.json",
        "store.shard-0-of-3.json",
        "another source",
        "\"9\"",
    ]);
    let note = |index| share(index).path(&folder.path().join(INDEX));
    std::fs::copy(note(0), note(1)).unwrap();
    refused(&[
        "store.shard-0-of-3.json and",
        "store.shard-1-of-3.json both hold share 0/3",
    ]);
    extract_share(folder.path(), share(1), &mine);
    let part = folder.path().join("00001.safetensors");
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    refused(&["00001.safetensors"]);
    std::fs::remove_file(&part).unwrap();
    refused(&["00001.safetensors"]);
    std::fs::write(&part, &bytes).unwrap();
    merge(folder.path()).unwrap();
    // A share that is repeated after that leaves no note.
    extract_share(folder.path(), share(1), &mine);
    assert!(!note(1).exists());
}

#[test]
fn vectors_of_another_type_than_the_store_says_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    extract_share(
        folder.path(),
        files::Shard::WHOLE,
        &work(info(4, StoreType::F32)),
    );
    merge(folder.path()).unwrap();
    let part = folder.path().join("00000.safetensors");
    let bytes = std::fs::read(&part).unwrap();
    let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
    // Of the same shape with half the bytes: rows would lie where there are none.
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_str(&text[..length]).unwrap();
    let mut start = 0;
    for name in ["captions", "embeddings", "keys"] {
        let shape = header[name]["shape"].as_array().unwrap().iter();
        let len: u64 = shape.map(|side| side.as_u64().unwrap()).product();
        header[name]["dtype"] = "U8".into();
        header[name]["data_offsets"] = serde_json::json!([start, start + len]);
        start += len;
    }
    let header = header.to_string();
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.bytes());
    changed.extend(vec![0; start as usize]);
    std::fs::write(&part, changed).unwrap();
    let message = Store::open(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("00000.safetensors") && message.contains("F32"),
        "{message}"
    );
}
