use std::fs::File;

use super::*;

fn write_shard(path: &Path, members: &[(&str, &[u8])]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut builder = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.finish().unwrap();
}

fn npy(values: &[u8]) -> Vec<u8> {
    let mut header = format!(
        "{{'descr': '|u1', 'fortran_order': False, 'shape': ({},), }}",
        values.len()
    );
    header.push_str(&" ".repeat(118 - 1 - header.len()));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(header.bytes());
    bytes.extend(values);
    bytes
}

#[test]
fn classes_prompts_and_image_bytes_are_found_across_shards() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write_shard(
        &root.join("test/0.tar"),
        &[("s0.cls", b"1"), ("s0.webp", b"first image")],
    );
    write_shard(
        &root.join("test/1.tar"),
        &[("s1.webp", b"second"), ("s1.cls", b"0\n")],
    );
    std::fs::write(root.join("test/nshards.txt"), "2\n").unwrap();
    std::fs::write(root.join("classnames.txt"), "cat\ndog\n").unwrap();
    std::fs::write(
        root.join("zeroshot_classification_templates.txt"),
        "a {c}.\n",
    )
    .unwrap();
    let WebDataset::Classification(data) = webdataset("wds/x", root, "test").unwrap() else {
        panic!()
    };
    assert_eq!(data.labels, Labels::Single(vec![1, 0]));
    assert_eq!(data.images[0].read().unwrap(), b"first image");
    assert_eq!(data.images[1].read().unwrap(), b"second");
    assert_eq!(
        data.templates,
        Some(Templates::Shared(vec!["a {c}.".into()]))
    );
    std::fs::write(root.join("classnames.txt"), "cat\n").unwrap();
    assert!(
        webdataset("wds/x", root, "test")
            .unwrap_err()
            .to_string()
            .contains("class 1")
    );
}

#[test]
fn captions_and_multi_hot_labels_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write_shard(
        &root.join("test/0.tar"),
        &[("a.jpg", b"x"), ("a.txt", b"one\\ntwo\nthree\n")],
    );
    std::fs::write(root.join("test/nshards.txt"), "1").unwrap();
    std::fs::write(root.join("dataset_type.txt"), "retrieval").unwrap();
    let WebDataset::Retrieval(data) = webdataset("wds/x", root, "test").unwrap() else {
        panic!()
    };
    assert_eq!(data.texts, ["one\ntwo", "three"]);

    write_shard(
        &root.join("test/0.tar"),
        &[("a.jpg", b"x"), ("a.npy", &npy(&[0, 1, 1]))],
    );
    std::fs::write(root.join("dataset_type.txt"), "multilabel").unwrap();
    let WebDataset::Classification(data) = webdataset("wds/x", root, "test").unwrap() else {
        panic!()
    };
    assert_eq!(
        data.labels,
        Labels::Multi {
            classes: 3,
            relevant: vec![false, true, true]
        }
    );
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let said = || webdataset("x", root, "test").unwrap_err().to_string();
    std::fs::create_dir(root.join("train")).unwrap();
    assert!(
        said().contains("no split `test`") && said().contains(": train"),
        "{}",
        said()
    );
    std::fs::create_dir(root.join("test")).unwrap();
    assert!(said().contains("nshards.txt"), "{}", said());
    write_shard(
        &root.join("test/0.tar"),
        &[("._a.jpg", b"x"), ("a.jpg", b"x")],
    );
    std::fs::write(root.join("test/nshards.txt"), "1").unwrap();
    assert!(
        webdataset("x", root, "test")
            .unwrap_err()
            .to_string()
            .contains("sample a has no cls")
    );
    let shard = root.join("test/0.tar");
    write_shard(&shard, &[("a.jpg", &[1; 4000]), ("a.cls", b"0")]);
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..2000]).unwrap();
    assert!(webdataset("x", root, "test").is_err());
}
