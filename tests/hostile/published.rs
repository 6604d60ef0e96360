//! Data sets as their authors publish them: records of pixels, idx, and MATLAB's files.

use crate::{Dice, Said};
use clip_burn::eval::datasets::classification;
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use std::io::Write;

/// Names of sets, and the folders of those that are fixtures.
const SETS: &[(&str, &str)] = &[
    ("cifar10", "cifar-10-batches-bin"),
    ("cifar100", "cifar-100-binary"),
    ("stl10", "stl10_binary"),
    ("mnist", "MNIST/raw"),
    ("food101", "food-101/meta"),
    ("pets", "oxford-iiit-pet/annotations"),
    ("flowers", "flowers-102"),
    ("imagenet1k", ""),
];

/// Images that the lists name.
const LISTED: &[&str] = &[
    "food-101/images/dish_000/100",
    "food-101/images/dish_040/140",
    "food-101/images/dish_080/180",
    "oxford-iiit-pet/images/Abyssinian_201",
    "oxford-iiit-pet/images/yorkshire_terrier_9",
    "oxford-iiit-pet/images/Bengal_3",
    "flowers-102/jpg/image_00001",
    "flowers-102/jpg/image_00002",
    "flowers-102/jpg/image_00003",
    "flowers-102/jpg/image_00004",
    "flowers-102/jpg/image_00005",
    "flowers-102/jpg/image_00006",
    "flowers-102/jpg/image_00007",
    "flowers-102/jpg/image_00008",
];

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let (set, folder) = *dice.pick(SETS);
    let top = |path: &str| path.split('/').next().map(str::to_owned);
    for name in LISTED.iter().filter(|name| top(name) == top(folder)) {
        said.write(&format!("{name}.jpg"), crate::pictures::small());
    }
    match set {
        "mnist" if dice.below(2) == 0 => dice.evenly(|dice| idx(dice, &*said)),
        "flowers" if dice.below(2) == 0 => dice.evenly(|dice| {
            let labels: Vec<f64> = (0..8).map(|_| dice.or_number(3) as f64).collect();
            let labels = matlab(dice, "labels", &labels);
            said.write("flowers-102/imagelabels.mat", labels);
            let places: Vec<f64> = (1..5).map(|place| dice.or_number(place) as f64).collect();
            let places = matlab(dice, "tstid", &places);
            said.write("flowers-102/setid.mat", places);
        }),
        "imagenet1k" => dice.evenly(|dice| imagenet(dice, &*said)),
        _ => fixtures(dice, said, folder),
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

/// The files of a set, one of them changed.
fn fixtures(dice: &mut Dice, said: &Said, folder: &str) {
    let from = tests::fixture("eval_datasets").join(folder);
    let entries = from.read_dir().expect("a folder of fixtures").flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let changed = dice.below(names.len());
    for (place, name) in names.iter().enumerate() {
        let bytes = std::fs::read(from.join(name)).expect("a fixture");
        let bytes = dice.only(place == changed, |dice| match name.ends_with(".txt") {
            true => with_line(dice, &bytes),
            false => dice.mangled(bytes.clone()),
        });
        said.write(&format!("{folder}/{name}"), bytes);
    }
}

/// A list, one line of it another text.
fn with_line(dice: &mut Dice, list: &[u8]) -> Vec<u8> {
    let mut lines: Vec<_> = list
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    if dice.bad() {
        let place = dice.below(lines.len());
        lines[place] = dice.text().into_bytes();
    }
    if dice.bad() {
        let place = dice.below(lines.len());
        lines[place].extend(dice.text().into_bytes());
    }
    dice.mangled(lines.join(&b'\n'))
}

fn imagenet(dice: &mut Dice, said: &Said) {
    let name = *dice.pick(&["eval_meta.mat", "eval_meta_plain.mat"]);
    let mut meta = dice.mangled(std::fs::read(tests::fixture(name)).expect("a fixture"));
    if dice.bad() && meta.len() > 200 {
        let at = 128 + dice.below(70);
        meta[at..at + 4].copy_from_slice(&(dice.number() as u32).to_le_bytes());
    }
    said.write("meta.mat", meta);
    said.write("val/a.jpg", crate::pictures::small());
    let truth = dice.or_number(1).to_string();
    said.write("ILSVRC2012_validation_ground_truth.txt", truth);
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
    if dice.bad() {
        // Others before it.
        let other = element(dice, 14, &matrix[..3].concat());
        file.extend(other.repeat(1 << dice.below(12)));
    }
    file.extend(content);
    dice.mangled(file)
}
