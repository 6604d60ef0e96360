use super::*;
use crate::datasets::classification;
use crate::prompts::{PromptSources, Prompts};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn open(&self, name: &str) -> ClassificationData {
        self.split(name, Split::of_dataset(name, None)).unwrap()
    }

    fn split(&self, name: &str, split: Split) -> Result<ClassificationData> {
        classification(name, self.0.path(), split)
    }

    #[track_caller]
    fn refuses(&self, name: &str, words: &[&str]) {
        let error = self.split(name, Split::of_dataset(name, None)).unwrap_err();
        let said = error.to_string();
        for word in words {
            assert!(said.contains(word), "no `{word}` in: {said}");
        }
    }
}

fn labels(data: &ClassificationData) -> Vec<usize> {
    match &data.labels {
        Labels::Single(labels) => labels.clone(),
        Labels::Multi { .. } => panic!("one label per image"),
    }
}

fn names(n: usize) -> String {
    (0..n).map(|i| format!("class_{i}\n")).collect()
}

/// Red, green and blue of a pixel.
fn pixel(data: &ClassificationData, image: usize, x: u32, y: u32) -> [u8; 3] {
    data.images[image].decode().unwrap().get_pixel(x, y).0
}

/// The pixels of an image whose level is 1 at (x, y) = (2, 1) of red, 2 in green and 3 in blue, plane by plane.
fn planes(side: usize, by_column: bool) -> Vec<u8> {
    let place = if by_column { 2 * side + 1 } else { side + 2 };
    let mut pixels = vec![0; 3 * side * side];
    (0..3).for_each(|plane| pixels[plane * side * side + place] = plane as u8 + 1);
    pixels
}

#[test]
fn cifars_records_are_labels_and_planes() {
    let root = Root::new();
    let one = |label: u8| [vec![label], planes(32, false)].concat();
    root.put(
        "cifar-10-batches-bin/test_batch.bin",
        [one(3), one(9)].concat(),
    );
    for batch in 1..6 {
        root.put(
            &format!("cifar-10-batches-bin/data_batch_{batch}.bin"),
            one(batch),
        );
    }
    root.put(
        "cifar-10-batches-bin/batches.meta.txt",
        format!("{}\n", names(10)),
    );
    for name in ["cifar10", "vtab/cifar10"] {
        let data = root.open(name);
        assert_eq!((data.name.as_str(), data.split.as_str()), (name, "test"));
        assert_eq!(labels(&data), [3, 9]);
        assert_eq!(data.classes.as_ref().unwrap()[3].main(), "class_3");
        assert_eq!(pixel(&data, 1, 2, 1), [1, 2, 3]);
        assert_eq!(pixel(&data, 1, 1, 2), [0, 0, 0]);
        assert!(data.images[1].name().ends_with("test_batch.bin/1"));
    }
    let train = root.split("cifar10", Split::Named("train")).unwrap();
    assert_eq!(labels(&train), [1, 2, 3, 4, 5]);
    let said = root
        .split("cifar10", Split::Named("val"))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("no split `val`; there are test, train"),
        "{said}"
    );

    // The folder itself as root; the fine label is the second.
    let root = Root::new();
    root.put("test.bin", [vec![19], one(99)].concat());
    root.put("fine_label_names.txt", names(100));
    let data = root.open("cifar100");
    assert_eq!(labels(&data), [99]);
    assert_eq!(pixel(&data, 0, 2, 1), [1, 2, 3]);
}

#[test]
fn stl10s_planes_lie_by_columns_and_labels_begin_at_one() {
    let root = Root::new();
    root.put("stl10_binary/test_X.bin", planes(96, true).repeat(2));
    root.put("stl10_binary/test_y.bin", [1, 10]);
    root.put("stl10_binary/class_names.txt", names(10));
    let data = root.open("stl10");
    assert_eq!(labels(&data), [0, 9]);
    assert_eq!(pixel(&data, 1, 2, 1), [1, 2, 3]);
    root.put("stl10_binary/test_y.bin", [1]);
    root.refuses("stl10", &["test_y.bin", "1 labels for the 2 images"]);
    root.put("stl10_binary/test_y.bin", [1, 0]);
    root.refuses("stl10", &["test_y.bin", "label 0 of image 1", "1 to 10"]);
}

fn idx(sizes: &[u32], content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(content);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn mnist_is_read_as_it_is_and_compressed() {
    let images = idx(&[2, 2, 3], &[0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]);
    let digits = idx(&[2], &[7, 0]);
    let file = |name: &str| format!("MNIST/raw/t10k-{name}-ubyte");
    for packed in [false, true] {
        let root = Root::new();
        let put = |name: &str, bytes: &[u8]| match packed {
            true => root.put(&format!("{}.gz", file(name)), gzip(bytes)),
            false => root.put(&file(name), bytes),
        };
        put("images-idx3", &images);
        put("labels-idx1", &digits);
        let data = root.open("mnist");
        assert_eq!(labels(&data), [7, 0]);
        assert_eq!(pixel(&data, 1, 2, 1), [15, 15, 15]);
        // As a result keeps it.
        let json = serde_json::to_string(&data.images[1]).unwrap();
        let again: ImageRef = serde_json::from_str(&json).unwrap();
        assert_eq!(again.decode().unwrap().get_pixel(0, 1).0, [13; 3]);
        let prompts = Prompts::find(&data.name, "en", &PromptSources::default()).unwrap();
        assert_eq!(prompts.classes[7].main(), "7");

        put("images-idx3", &images[..images.len() - 1]);
        root.refuses("mnist", &["images-idx3", "27 bytes", "[2, 2, 3]"]);
        put("images-idx3", b"<html>");
        root.refuses("mnist", &["images-idx3", "no idx file", "get it again"]);
        put("images-idx3", &images);
        put("labels-idx1", &idx(&[2], &[7, 10]));
        root.refuses("mnist", &["labels-idx1", "label 10 of image 1"]);
        put("labels-idx1", &idx(&[1], &[7]));
        root.refuses("mnist", &["labels-idx1", "1 labels for the 2 images"]);
    }
    let root = Root::new();
    root.put("MNIST/raw/t10k-images-idx3-ubyte.gz", &gzip(&images)[..30]);
    root.refuses("mnist", &["images-idx3-ubyte.gz", "not a whole gzip file"]);
}

#[test]
fn lists_name_the_images_of_food_and_pets() {
    let root = Root::new();
    let classes: String = (0..101).map(|i| format!("dish_{i:03}\n")).collect();
    root.put("food-101/meta/classes.txt", &classes);
    root.put("food-101/meta/test.txt", "dish_002/11\ndish_100/7\n");
    let data = root.open("food101");
    assert_eq!(labels(&data), [2, 100]);
    assert!(
        data.images[1]
            .name()
            .ends_with("food-101/images/dish_100/7.jpg")
    );
    assert_eq!(data.classes.unwrap()[2].main(), "dish 002");
    root.put("food-101/meta/test.txt", "dish_002/11\npizza/7\n");
    root.refuses("food101", &["test.txt", "line 2", "pizza/7"]);

    root.put(
        "oxford-iiit-pet/annotations/test.txt",
        "Abyssinian_201 1 1 1\nyorkshire_terrier_9 37 2 25\n",
    );
    let data = root.open("vtab/pets");
    assert_eq!(labels(&data), [0, 36]);
    assert!(
        data.images[1]
            .name()
            .ends_with("images/yorkshire_terrier_9.jpg")
    );
    let prompts = Prompts::find(&data.name, "en", &PromptSources::default()).unwrap();
    assert_eq!(prompts.classes[36].main(), "Yorkshire Terrier");
    for (line, word) in [
        ("a_1 38 1 1", "label 38"),
        ("a_1 x 1 1", "expected IMAGE CLASS"),
    ] {
        root.put("oxford-iiit-pet/annotations/test.txt", line);
        root.refuses("pets", &["test.txt", word]);
    }
    root.put("oxford-iiit-pet/annotations/test.txt", "");
    root.refuses("pets", &["test.txt", "no image"]);
}

/// A MATLAB file of one row of numbers, of bytes or of words of two.
fn matlab(variables: &[(&str, &[u16])], compressed: bool) -> Vec<u8> {
    let element = |kind: u32, data: &[u8]| {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let mut file = vec![0; 128];
    for (name, values) in variables {
        let dims = [1u32.to_le_bytes(), (values.len() as u32).to_le_bytes()].concat();
        let values: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let matrix = [
            element(6, &[11, 0, 0, 0, 0, 0, 0, 0]),
            element(5, &dims),
            element(1, name.as_bytes()),
            element(4, &values),
        ];
        let matrix = element(14, &matrix.concat());
        if !compressed {
            file.extend(matrix);
            continue;
        }
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&matrix).unwrap();
        let packed = packed.finish().unwrap();
        file.extend(15u32.to_le_bytes());
        file.extend((packed.len() as u32).to_le_bytes());
        file.extend(packed);
    }
    file
}

#[test]
fn flowers_are_split_by_their_numbers() {
    for compressed in [false, true] {
        let root = Root::new();
        let file = |variables: &[(&str, &[u16])]| matlab(variables, compressed);
        root.put(
            "flowers-102/imagelabels.mat",
            file(&[("labels", &[77, 1, 102])]),
        );
        let splits: &[(&str, &[u16])] = &[("trnid", &[2]), ("valid", &[1]), ("tstid", &[3, 1])];
        root.put("flowers-102/setid.mat", file(splits));
        let data = root.open("flowers");
        assert_eq!(labels(&data), [101, 76]);
        assert!(data.images[0].name().ends_with("jpg/image_00003.jpg"));
        let of = |split| labels(&root.split("flowers", Split::Named(split)).unwrap());
        assert_eq!((of("train"), of("val")), (vec![0], vec![76]));
        root.put("flowers-102/setid.mat", file(&[("tstid", &[4])]));
        root.refuses("flowers", &["setid.mat", "image 4", "labels of 3"]);
        root.put("flowers-102/setid.mat", "MATLAB 7.3");
        root.refuses("flowers", &["setid.mat", "`tstid`"]);
    }
}

#[test]
fn eurosats_folders_get_the_names_of_the_packaged_list() {
    let root = Root::new();
    for class in listed::EUROSAT {
        root.put(&format!("eurosat/2750/{class}/{class}_1.jpg"), "");
    }
    let data = root.open("eurosat");
    assert_eq!(labels(&data), Vec::from_iter(0..10));
    assert_eq!((data.classes, data.split.as_str()), (None, "all"));
    let prompts = Prompts::find(&data.name, "en", &PromptSources::default()).unwrap();
    assert_eq!(prompts.classes[9].main(), "lake or sea");
    root.put("eurosat/2750/Snow/1.jpg", "");
    root.refuses("eurosat", &["11 class folders, expected 10"]);
    fs::remove_dir_all(root.0.path().join("eurosat/2750/River")).unwrap();
    root.refuses("eurosat", &["River", "eval fetch eurosat"]);
}

#[test]
fn what_is_not_there_is_told_with_where_it_belongs() {
    let root = Root::new();
    for named in NAMED {
        let fetch = format!("eval fetch {}", named.name);
        root.refuses(
            named.name,
            &["no such file", named.folder, named.holds, &fetch],
        );
        assert!(named.name == "eurosat" || named.splits[0] == "test");
        let packaged = Prompts::find(named.name, "en", &PromptSources::default());
        match named.names {
            Some(_) => assert!(packaged.is_err(), "{}: names are packaged too", named.name),
            None => assert_eq!(packaged.unwrap().classes.len(), named.classes),
        }
    }
    root.put("cifar-10-batches-bin/test_batch.bin", [0; 3072]);
    root.refuses("cifar10", &["test_batch.bin", "3072 bytes", "3073"]);
    root.put("cifar-10-batches-bin/test_batch.bin", [10; 3073]);
    root.refuses(
        "cifar10",
        &["test_batch.bin", "label 10 of image 0", "0 to 9"],
    );
    root.put("cifar-10-batches-bin/test_batch.bin", [1; 3073]);
    root.put("cifar-10-batches-bin/batches.meta.txt", "cat\n");
    root.refuses(
        "cifar10",
        &["batches.meta.txt", "1 class names, expected 10"],
    );
    // What torchvision downloads.
    let root = Root::new();
    root.put("cifar-10-batches-py/batches.meta", "");
    root.put("batches.meta", "");
    root.refuses("cifar10", &["Python version", "eval fetch cifar10"]);
}

/// Reference: `tests/reference/eval_datasets.py` (torchvision).
#[test]
fn labels_pixels_and_files_are_those_that_torchvision_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/eval_datasets");
    let expected = fs::read_to_string(root.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<Value>> = serde_json::from_str(&expected).unwrap();
    assert_eq!(
        expected.len(),
        NAMED.len() - 1,
        "EuroSAT has nothing but folders"
    );
    for (name, expected) in expected {
        let data = classification(&name, &root, Split::of_dataset(&name, None)).unwrap();
        let labels = labels(&data);
        assert_eq!(data.images.len(), expected.len(), "{name}");
        for (place, (image, label)) in data.images.iter().zip(labels).enumerate() {
            let got = match image {
                ImageRef::File(path) => json!([label, path.file_name().unwrap().to_str()]),
                _ => json!([label, pixel(&data, place, 9, 1), pixel(&data, place, 1, 17)]),
            };
            assert_eq!(got, expected[place], "{name}, image {place}");
        }
    }
}
