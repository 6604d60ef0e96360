//! Data sets as their authors publish them: records of pixels, idx, and MATLAB's files.

use crate::{Dice, Said};
use clip_burn::eval::datasets::classification;
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use std::io::Write;
use std::path::Path;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let set = *dice.pick(&[
        "cifar10",
        "cifar100",
        "stl10",
        "mnist",
        "food101",
        "flowers",
        "pets",
        "imagenet1k",
    ]);
    copy(dice, said, &tests::fixture("eval_datasets"), "");
    match set {
        "mnist" => idx(dice, said),
        "flowers" => {
            let labels: Vec<f64> = (0..8).map(|_| dice.or_number(3) as f64).collect();
            let labels = matlab(dice, "labels", &labels);
            said.write("flowers-102/imagelabels.mat", labels);
            let places: Vec<f64> = (1..5).map(|place| dice.or_number(place) as f64).collect();
            let places = matlab(dice, "tstid", &places);
            said.write("flowers-102/setid.mat", places);
        }
        "imagenet1k" => {
            let meta = std::fs::read(tests::fixture(
                *dice.pick(&["eval_meta.mat", "eval_meta_plain.mat"]),
            ))
            .expect("a fixture");
            let mut meta = dice.mangled(meta);
            if dice.bad() && meta.len() > 200 {
                let at = 128 + dice.below(70);
                meta[at..at + 4].copy_from_slice(&(dice.number() as u32).to_le_bytes());
            }
            said.write("meta.mat", meta);
            said.write("val/a.jpg", crate::pictures::small());
            said.write(
                "ILSVRC2012_validation_ground_truth.txt",
                dice.or_number(1).to_string(),
            );
        }
        _ => {}
    }
    let root = said.path("");
    let split = if set == "imagenet1k" { "val" } else { "test" };
    if let Some(data) = said.hear(classification(set, &root, split)) {
        data.labels.classes();
        for image in data.images.iter().take(2).chain(data.images.last()) {
            said.hear(image.decode());
        }
    }
}

/// The fixtures, some of them mangled.
fn copy(dice: &mut Dice, said: &Said, from: &Path, to: &str) {
    let mut entries: Vec<_> = from
        .read_dir()
        .expect("a folder of fixtures")
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let to = format!("{to}{name}");
        match path.is_dir() {
            true => copy(dice, said, &path, &format!("{to}/")),
            false => {
                let bytes = std::fs::read(&path).expect("a fixture");
                let bytes = match name.ends_with(".txt") && dice.bad() {
                    true => dice.text().into_bytes(),
                    false => dice.mangled(bytes),
                };
                said.write(&to, bytes);
            }
        }
    }
}

fn idx(dice: &mut Dice, said: &Said) {
    let (count, height, width) = (dice.or_number(3), dice.or_number(4), dice.or_number(5));
    let mut images = vec![0, 0, dice.or_number(8) as u8, 3];
    for size in [count, height, width] {
        images.extend((size as u32).to_be_bytes());
    }
    images.extend(dice.noise(60));
    let mut labels = vec![0, 0, 8, dice.or_number(1) as u8];
    labels.extend((dice.or_number(3) as u32).to_be_bytes());
    labels.extend([1, dice.or_number(2) as u8, 9]);
    for (name, bytes) in [
        ("t10k-images-idx3-ubyte", images),
        ("t10k-labels-idx1-ubyte", labels),
    ] {
        let bytes = dice.mangled(bytes);
        let _ = std::fs::remove_file(said.path(&format!("MNIST/raw/{name}")));
        match dice.below(3) {
            0 => drop(said.write(&format!("MNIST/raw/{name}"), bytes)),
            _ => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&bytes).expect("memory");
                if dice.bad() {
                    let zeros = vec![0; 1 << 24];
                    (0..20).for_each(|_| encoder.write_all(&zeros).expect("memory"));
                }
                let packed = encoder.finish().expect("memory");
                let packed = dice.mangled(packed);
                said.write(&format!("MNIST/raw/{name}.gz"), packed);
            }
        }
    }
}

/// A variable of a MATLAB file, compressed or not.
fn matlab(dice: &mut Dice, name: &str, values: &[f64]) -> Vec<u8> {
    let element = |dice: &mut Dice, kind: u32, content: &[u8]| {
        let length = dice.or_number(content.len() as u64) as u32;
        let mut bytes = [kind.to_le_bytes(), length.to_le_bytes()].concat();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let numbers: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let kind = dice.or_number(9) as u32;
    let name = dice.or_text(name);
    let matrix = [
        element(dice, 6, &[6, 0, 0, 0, 0, 0, 0, 0]),
        element(dice, 5, &[1, 0, 0, 0, values.len() as u8, 0, 0, 0]),
        element(dice, 1, name.as_bytes()),
        element(dice, kind, &numbers),
    ];
    let mut content = element(dice, 14, &matrix.concat());
    if dice.below(2) == 0 {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&content).expect("memory");
        if dice.bad() {
            encoder.write_all(&vec![0; 70 << 20]).expect("memory");
        }
        let packed = encoder.finish().expect("memory");
        content = element(dice, 15, &packed);
    }
    let mut file = vec![b' '; 124];
    file.extend([0, 1, b'I', b'M']);
    file.extend(content);
    dice.mangled(file)
}
