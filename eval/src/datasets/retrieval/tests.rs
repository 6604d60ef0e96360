use super::*;

struct Set {
    dir: tempfile::TempDir,
}

impl Set {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn read_with(
        &self,
        format: &str,
        text: &str,
        options: &RetrievalOptions,
    ) -> Result<RetrievalData> {
        let path = self.dir.path().join("annotations");
        std::fs::write(&path, text).unwrap();
        retrieval(format, &path, Path::new("images"), options)
    }

    fn read(&self, format: &str, text: &str) -> Result<RetrievalData> {
        self.read_with(format, text, &RetrievalOptions::default())
    }
}

fn names(data: &RetrievalData) -> Vec<String> {
    data.images.iter().map(ImageRef::name).collect()
}

fn owners(data: &RetrievalData) -> Vec<Vec<u32>> {
    (0..data.texts.len())
        .map(|t| data.matches.images_of(t).to_vec())
        .collect()
}

const KARPATHY: &str = r#"{"dataset": "coco", "images": [
    {"filepath": "val2014", "filename": "a.jpg", "split": "test",
     "sentences": [{"raw": "A cat, sitting.", "tokens": ["a"]}, {"raw": "Two cats."}]},
    {"filepath": "val2014", "filename": "b.jpg", "split": "val", "sentences": [{"raw": "Other."}]},
    {"filename": "c.jpg", "split": "test", "sentences": [{"raw": "A dog."}]}]}"#;

#[test]
fn karpathy_takes_the_raw_sentences_of_one_split() {
    let data = Set::new().read("karpathy", KARPATHY).unwrap();
    assert_eq!(data.texts, ["A cat, sitting.", "Two cats.", "A dog."]);
    assert_eq!(names(&data), ["images/val2014/a.jpg", "images/c.jpg"]);
    assert_eq!(owners(&data), [[0], [0], [1]]);
    let options = RetrievalOptions {
        max_captions: Some(1),
        ..Default::default()
    };
    assert_eq!(
        Set::new()
            .read_with("karpathy", KARPATHY, &options)
            .unwrap()
            .texts,
        ["A cat, sitting.", "A dog."]
    );
    let options = RetrievalOptions {
        split: "dev".into(),
        ..Default::default()
    };
    let error = Set::new()
        .read_with("karpathy", KARPATHY, &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`dev`") && error.contains("\"test\": 2"),
        "{error}"
    );
}

#[test]
fn coco_orders_images_by_id_and_refuses_captions_without_image() {
    let text = r#"{"images": [{"id": 9, "file_name": "nine.jpg"}, {"id": 2, "file_name": "two.jpg"},
        {"id": 5, "file_name": "five.jpg"}],
        "annotations": [{"id": 1, "image_id": 9, "caption": "n"}, {"id": 2, "image_id": 2, "caption": "t"}]}"#;
    let data = Set::new().read("coco", text).unwrap();
    assert_eq!(
        names(&data),
        ["images/two.jpg", "images/five.jpg", "images/nine.jpg"]
    );
    assert_eq!(
        (data.texts.clone(), owners(&data)),
        (vec!["t".into(), "n".into()], vec![vec![0], vec![2]])
    );
    assert!(data.notes[0].contains("1 of 3 images have no caption"));
    let orphan = text.replace("\"image_id\": 2", "\"image_id\": 3");
    let error = Set::new().read("coco", &orphan).unwrap_err().to_string();
    assert!(error.contains("image 3, which is not listed"), "{error}");
    let twice = text.replace("\"id\": 5", "\"id\": 2");
    assert!(
        Set::new()
            .read("coco", &twice)
            .unwrap_err()
            .to_string()
            .contains("listed twice")
    );
}

#[test]
fn both_flickr_files_split_where_the_name_ends() {
    let token = "1.jpg#0\tA man, in blue.\n1.jpg#1\tA man.\n2.jpg#0\tA dog .\n";
    let text = "image,caption\n1.jpg,A man, in blue.\n1.jpg,A man.\n2.jpg,A dog .\n";
    for file in [token, text] {
        let data = Set::new().read("flickr", file).unwrap();
        assert_eq!(data.texts, ["A man, in blue.", "A man.", "A dog ."]);
        assert_eq!(owners(&data), [[0], [0], [1]]);
    }
    let error = Set::new()
        .read("flickr", "1.jpg#0\tx\nnonsense\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn lists_and_lines_hold_one_caption_or_many() {
    let list =
        r#"[{"image": "v/a.jpg", "caption": ["x", "y"]}, {"image": "v/b.jpg", "caption": "z"}]"#;
    let lines = "{\"image\": \"v/a.jpg\", \"caption\": [\"x\", \"y\"]}\n\n{\"image\": \"v/b.jpg\", \"caption\": \"z\"}\n";
    for (format, text) in [("blip", list), ("jsonl", lines)] {
        let data = Set::new().read(format, text).unwrap();
        assert_eq!(
            (owners(&data), names(&data)),
            (
                vec![vec![0], vec![0], vec![1]],
                vec!["images/v/a.jpg".into(), "images/v/b.jpg".to_string()]
            )
        );
    }
    let error = Set::new()
        .read(
            "jsonl",
            "{\"image\": \"a\", \"caption\": \"x\"}\n{\"file\": 1}",
        )
        .unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    // A list has every image once; lines may be pairs.
    let twice = list.replace("b.jpg", "a.jpg");
    let error = Set::new().read("blip", &twice).unwrap_err().to_string();
    assert!(error.contains("listed twice"), "{error}");
    let pairs = Set::new()
        .read("jsonl", &lines.replace("b.jpg", "a.jpg"))
        .unwrap();
    assert_eq!((names(&pairs).len(), owners(&pairs)), (1, vec![vec![0]; 3]));
    let empty = lines.replace("\"z\"", "\" \"");
    assert!(
        Set::new()
            .read("jsonl", &empty)
            .unwrap_err()
            .to_string()
            .contains("empty caption")
    );
}

#[test]
fn tables_are_read_by_the_names_of_their_columns() {
    let tabs = "id\tfilepath\ttitle\n1\ta.jpg\tA cat, sitting\n2\tb.jpg\tx\n3\ta.jpg\t\"two \"\"cats\"\"\"\n";
    let data = Set::new().read("csv", tabs).unwrap();
    assert_eq!(data.texts, ["A cat, sitting", "x", "two \"cats\""]);
    assert_eq!(owners(&data), [[0], [1], [0]]);
    assert_eq!(names(&data), ["images/a.jpg", "images/b.jpg"]);
    let commas = Set::new()
        .read("csv", "Image,Caption\na.jpg,\"A cat, sitting\"\n")
        .unwrap();
    assert_eq!(commas.texts, ["A cat, sitting"]);
    let refused = |text: &str| Set::new().read("csv", text).unwrap_err().to_string();
    let said = refused("url,caption\nx,y\n");
    assert!(
        said.contains("no column of image paths") && said.contains("url, caption"),
        "{said}"
    );
    assert!(refused("image,caption\na.jpg\n").contains("annotations"));
    assert!(refused("image,caption\na.jpg,\n").contains("empty caption"));
    assert!(refused("image,caption\na.jpg,x\n,y\n").contains("line 3: the row names no image"));
}

/// All rows behind it would be one caption, and their images would be missing from the gallery.
#[test]
fn a_quote_that_swallows_the_rest_of_a_table_is_refused() {
    let table = "image,caption\na.jpg,x\nb.jpg,\"a cat\nc.jpg,y\nd.jpg,z\n";
    let said = Set::new().read("csv", table).unwrap_err().to_string();
    assert!(said.contains("swallows 2 lines"), "{said}");
    // Line breaks inside a caption are no fault.
    let table = "image,caption\na.jpg,\"a cat\nof two lines\"\n";
    assert_eq!(Set::new().read("csv", table).unwrap().texts.len(), 1);
}

#[test]
fn long_caption_sets_have_one_text_per_image() {
    let shared = r#"[{"image": "coco/1.jpg", "conversations": [{"value": "?"}, {"value": "Long.\n\nText."}]}]"#;
    assert_eq!(
        Set::new().read("sharegpt4v", shared).unwrap().texts,
        ["Long.\n\nText."]
    );
    let options = RetrievalOptions {
        join_lines: true,
        ..Default::default()
    };
    assert_eq!(
        Set::new()
            .read_with("sharegpt4v", shared, &options)
            .unwrap()
            .texts,
        ["Long. Text."]
    );

    let docci = "{\"example_id\": \"test_0\", \"split\": \"test\", \"image_file\": \"t.jpg\", \"description\": \"d\"}\n\
                 {\"example_id\": \"train_0\", \"split\": \"train\", \"image_file\": \"r.jpg\", \"description\": \"e\"}";
    assert_eq!(Set::new().read("docci", docci).unwrap().texts, ["d"]);

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("caption")).unwrap();
    for (name, text) in [("10", "ten"), ("9", "nine\nsecond line")] {
        std::fs::write(dir.path().join("caption").join(format!("{name}.txt")), text).unwrap();
    }
    let data = retrieval(
        "urban1k",
        dir.path(),
        dir.path(),
        &RetrievalOptions::default(),
    )
    .unwrap();
    assert_eq!(data.texts, ["nine", "ten"]);
}

#[test]
fn languages_are_chosen_by_option_and_named_when_absent() {
    let lines =
        r#"{"image/key": "k", "de": {"caption": ["eins", "zwei"]}, "en": {"caption": ["one"]}}"#;
    let options = RetrievalOptions {
        language: "de".into(),
        ..Default::default()
    };
    assert_eq!(
        Set::new()
            .read_with("xm3600", lines, &options)
            .unwrap()
            .texts,
        ["eins"]
    );
    let options = RetrievalOptions {
        language: "fr".into(),
        ..Default::default()
    };
    assert!(
        Set::new()
            .read_with("xm3600", lines, &options)
            .unwrap_err()
            .to_string()
            .contains("`fr`")
    );
}

#[test]
fn a_chinese_clip_text_may_own_several_images() {
    let lines = "{\"text_id\": 1, \"text\": \"x\", \"image_ids\": [7, 8]}\n{\"text_id\": 2, \"text\": \"y\", \"image_ids\": [8]}";
    let data = Set::new().read("chinese-clip", lines).unwrap();
    assert_eq!(owners(&data), [vec![0, 1], vec![1]]);
}

#[test]
fn another_schema_is_an_error_that_names_the_file() {
    for format in FORMATS.iter().filter(|f| **f != "wds") {
        let error = Set::new()
            .read(format, r#"{"unexpected": [1, 2]}"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("annotations") || error.contains(format),
            "{format}: {error}"
        );
    }
    assert!(
        Set::new()
            .read("parquet", "")
            .unwrap_err()
            .to_string()
            .contains("karpathy")
    );
}

#[test]
fn unusable_images_take_their_captions_with_them() {
    let data = Set::new().read("karpathy", KARPATHY).unwrap();
    let (rest, texts) = data.keep_images(&[1]).unwrap();
    assert_eq!((rest.texts, texts), (vec!["A dog.".to_string()], vec![2]));
    assert_eq!(rest.matches.images_of(0), [0]);
}

#[test]
fn chinese_clips_table_holds_its_images_in_base64() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let dir = tempfile::tempdir().unwrap();
    let (texts, table) = (dir.path().join("t.jsonl"), dir.path().join("i.tsv"));
    std::fs::write(
        &texts,
        r#"{"text_id": 1, "text": "猫", "image_ids": [12, 7]}"#,
    )
    .unwrap();
    let cells = [("7", "seven"), ("12", "twelve")];
    let lines = cells.map(|(id, image)| format!("{id}\t{}\n", STANDARD.encode(image)));
    std::fs::write(&table, lines.concat()).unwrap();
    let read = || retrieval("chinese-clip", &texts, &table, &RetrievalOptions::default());
    let data = read().unwrap();
    assert_eq!(data.images[0].read().unwrap(), b"twelve");
    assert_eq!(data.images[1].read().unwrap(), b"seven");
    assert_eq!(owners(&data), [[0, 1]]);
    std::fs::write(&table, &lines[0]).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("i.tsv: no image 12"), "{error}");
    std::fs::write(&table, "7 no tab\n").unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("line 1: no tab"), "{error}");
}

#[test]
fn xtd_pairs_names_and_captions_by_line() {
    let set = Set::new();
    let folder = set.dir.path();
    std::fs::write(folder.join("test_image_names.txt"), "b.jpg\na.jpg\n").unwrap();
    std::fs::write(
        folder.join("test_1kcaptions_de.txt"),
        "ein Hund\neine Katze\n",
    )
    .unwrap();
    std::fs::write(folder.join("fra_Latn.txt"), "un chien\n").unwrap();
    let read = |language: &str| {
        let options = RetrievalOptions {
            language: language.into(),
            ..RetrievalOptions::default()
        };
        retrieval("xtd", folder, Path::new("images"), &options)
    };
    let data = read("de").unwrap();
    assert_eq!(data.texts, ["ein Hund", "eine Katze"]);
    assert_eq!(names(&data), ["images/b.jpg", "images/a.jpg"]);
    let error = read("fra_Latn").unwrap_err().to_string();
    assert!(error.contains("1 captions for the 2 images"), "{error}");
    assert!(read("it").unwrap_err().to_string().contains("_it.txt"));
}
