//! Files as pyarrow wrote them (`tests/reference/parquet.py`), and damaged ones.

use std::fs;
use std::path::Path;

use super::*;
use crate::captions::CaptionField;
use crate::sample::CaptionKind;
use ::parquet::file::metadata::ParquetMetaDataReader;
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parquet")
}

/// The rows of a file as pyarrow reads them.
fn rows(file: &str) -> Vec<Value> {
    let json = fs::read(fixtures().join("rows.json")).unwrap();
    let rows: Value = serde_json::from_slice(&json).unwrap();
    rows[file].as_array().unwrap().clone()
}

fn config(files: &str) -> ParquetConfig {
    ParquetConfig {
        root: Some(fixtures()),
        max_bad: 0.5,
        ..ParquetConfig::new(files)
    }
}

fn nested() -> ParquetConfig {
    ParquetConfig {
        image_column: "image.bytes".into(),
        caption_fields: vec![
            CaptionField::new("title", CaptionKind::Web),
            CaptionField {
                weight: Some(6.0),
                ..CaptionField::new("texts", CaptionKind::Synthetic)
            },
        ],
        ..config("nested.parquet")
    }
}

fn refusal(config: ParquetConfig) -> String {
    ParquetSource::open(config).unwrap_err().to_string()
}

fn latin1(image: &[u8]) -> String {
    image.iter().map(|byte| char::from(*byte)).collect()
}

#[test]
fn usable_rows_are_those_that_pyarrow_reads() {
    let usable = |row: &Value| {
        let caption = row["caption"].as_str().unwrap_or_default();
        row["jpg"].is_string() && !caption.trim().is_empty()
    };
    let mut expected = [rows("0.parquet"), rows("1.parquet")].concat();
    expected.retain(usable);
    assert_eq!(expected.len(), 8);
    for cache_mb in [0, 1] {
        let config = ParquetConfig {
            cache_mb,
            ..config("{0..1}.parquet")
        };
        let source = ParquetSource::open(config).unwrap();
        assert_eq!(source.len(), expected.len());
        // Out of order, and from several threads.
        (0..100usize).into_par_iter().for_each(|i| {
            let index = i * 5 % expected.len();
            let (sample, row) = (source.get(index).unwrap(), &expected[index]);
            assert_eq!(sample.key, row["key"]);
            assert_eq!(sample.captions.web, [row["caption"].as_str().unwrap()]);
            assert_eq!(latin1(&sample.image), row["jpg"]);
        });
        assert!(source.get(8).unwrap_err().to_string().contains("only 8"));
    }
}

#[test]
fn addresses_are_those_of_the_column_where_there_is_one() {
    let urls = |files: &str, column: Option<&str>| {
        let source = ParquetSource::open(ParquetConfig {
            url_column: column.map(str::to_owned),
            ..config(files)
        })
        .unwrap();
        let urls = (0..source.len()).map(|i| source.url(i).unwrap());
        urls.collect::<Vec<_>>()
    };
    let usable = |row: &&Value| row["jpg"].is_string() && row["caption"].is_string();
    let expected: Vec<_> = rows("0.parquet")
        .iter()
        .filter(usable)
        .map(|row| row["url"].as_str().map(str::to_owned))
        .collect();
    let read = urls("0.parquet", Some("url"));
    assert!(read.iter().all(Option::is_some) && !read.is_empty());
    assert!(read.iter().all(|url| expected.contains(url)));
    assert!(urls("1.parquet", Some("url")).iter().all(Option::is_none));
    assert!(urls("0.parquet", None).iter().all(Option::is_none));
}

#[test]
fn strings_of_a_column_are_read_row_by_row() {
    for (file, column) in [("0.parquet", "caption"), ("1.parquet", "key")] {
        let path = fixtures().join(file);
        let read = crate::parquet::read_strings(&path, column)
            .unwrap()
            .unwrap();
        let text = |row: &Value| row[column].as_str().map(str::to_owned);
        let expected: Vec<_> = rows(file).iter().map(text).collect();
        assert_eq!(read, expected);
    }
    let path = fixtures().join("0.parquet");
    for column in ["no such", "width", "jpg"] {
        assert_eq!(crate::parquet::read_strings(&path, column).unwrap(), None);
    }
}

#[test]
fn a_null_among_rewrites_keeps_its_place() {
    let config = ParquetConfig {
        caption_fields: vec![
            CaptionField::new("title", CaptionKind::Web),
            CaptionField::new("texts", CaptionKind::Rewrite),
        ],
        ..nested()
    };
    let source = ParquetSource::open(config).unwrap();
    let rewrites: Vec<_> = (0..4)
        .map(|i| source.get(i).unwrap().captions.rewrites)
        .collect();
    assert_eq!(rewrites[0], ["a", "b", "c"]);
    assert_eq!(
        (&rewrites[1], &rewrites[2]),
        (&vec![String::new()], &vec![String::new()])
    );
    assert_eq!(rewrites[3], ["", "d"]);
    let report = source.reports()[0].to_string();
    let said = "4 samples; in them 4 web captions, 4 rewrites, 0 synthetic captions; left out: 1 × no image";
    assert!(report.contains(said), "{report}");
}

#[test]
fn dropped_rows_are_counted_and_named() {
    let source = ParquetSource::open(config("0.parquet::1.parquet")).unwrap();
    let told: Vec<_> = source
        .problems()
        .iter()
        .map(|problem| format!("{}{}", problem.place, problem.what))
        .collect();
    assert_eq!(
        told,
        [
            ", row 1no image; its status is `failed_to_download`",
            ", row 3no image; its status is `failed_to_download`",
            ", row 4no caption",
            ", row 6no caption",
            ", row 1no image",
        ]
    );
    let strict = ParquetConfig {
        max_bad: 0.3,
        ..config("{0..1}.parquet")
    };
    let error = refusal(strict);
    assert!(
        error.contains("5 of 13 rows") && error.contains("0.parquet, row 1"),
        "{error}"
    );
}

#[test]
fn images_inside_structs_and_lists_of_captions_are_read() {
    let source = ParquetSource::open(nested()).unwrap();
    let captions: Vec<_> = (0..source.len())
        .map(|i| source.get(i).unwrap().captions)
        .collect();
    let synthetic: Vec<_> = captions.iter().map(|c| c.synthetic.join("|")).collect();
    assert_eq!(synthetic, ["a|b|c", "", "", "d"]);
    assert_eq!(captions[0].weights[2], [2.0, 2.0, 2.0]);
    assert_eq!(captions[3].web, ["t3"]);
    let sample = source.get(3).unwrap();
    assert_eq!(sample.key, "nested.parquet/3");
    assert_eq!(
        latin1(&sample.image),
        rows("nested.parquet")[3]["image"]["bytes"]
    );
    assert_eq!(source.problems().count(), 1);
}

#[test]
fn missing_and_wrong_columns_are_named_with_the_setting() {
    let image = |name: &str| ParquetConfig {
        image_column: name.into(),
        ..config("0.parquet")
    };
    let captions = |name: &str| ParquetConfig {
        caption_fields: vec![CaptionField::new(name, CaptionKind::Web)],
        ..config("0.parquet")
    };
    let key = |name: &str| ParquetConfig {
        key_column: Some(name.into()),
        ..config("0.parquet")
    };
    let whole = ParquetConfig {
        image_column: "image".into(),
        ..nested()
    };
    for (config, expected) in [
        (image("png"), "no column `png`; the file has [\"url\", "),
        (image("png"), "Change `image_column`"),
        (image("url"), "`url` holds text, not encoded images"),
        (image("width"), "`width` holds INT32, not encoded images"),
        (
            whole,
            "`image` has the parts [\"image.bytes\", \"image.path\"]",
        ),
        (captions("txt"), "no column `txt`"),
        (
            captions("jpg"),
            "`jpg` holds bytes, not text; change `caption_fields`",
        ),
        (captions("width"), "`width` holds INT32, not text"),
        (key("width"), "change `key_column`"),
    ] {
        let error = refusal(config);
        assert!(
            error.contains(expected) && error.contains(".parquet: "),
            "{error}"
        );
    }
}

#[test]
fn truncated_damaged_and_missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(fixtures().join("1.parquet")).unwrap();
    let opened = |bytes: &[u8]| {
        fs::write(folder.path().join("a.parquet"), bytes).unwrap();
        ParquetSource::open(ParquetConfig {
            root: Some(folder.path().into()),
            max_bad: 0.5,
            ..ParquetConfig::new("a.parquet")
        })
    };
    assert_eq!(opened(&bytes).unwrap().len(), 4);
    for bytes in [&bytes[..bytes.len() / 2], b""] {
        let error = opened(bytes).unwrap_err().to_string();
        assert!(
            error.contains("a.parquet: cannot be read as parquet"),
            "{error}"
        );
        assert!(error.contains("Get it again"), "{error}");
    }
    // Bytes of the first pages.
    let mut damaged = bytes.clone();
    damaged[4..60].fill(0xff);
    let error = opened(&damaged).unwrap_err().to_string();
    assert!(error.contains("a.parquet, row 0: the row group"), "{error}");

    // At some of these bytes the decoders panic.
    for byte in 4..140 {
        let mut damaged = bytes.clone();
        damaged[byte] = 0;
        if let Ok(source) = opened(&damaged) {
            (0..source.len()).for_each(|index| drop(source.get(index)));
        }
    }

    assert!(refusal(config("none.parquet")).contains("none.parquet"));
    assert!(refusal(config("http://host/0.parquet")).contains("no parquet file here"));
}

#[test]
fn images_are_not_read_at_opening_where_the_status_tells_which_are_missing() {
    let mut bytes = fs::read(fixtures().join("0.parquet")).unwrap();
    let file = fs::File::open(fixtures().join("0.parquet")).unwrap();
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&file)
        .unwrap();
    let (start, length) = metadata.row_group(0).column(5).byte_range();
    bytes[start as usize..][..length as usize].fill(0xff);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("0.parquet"), bytes).unwrap();
    let damaged = ParquetConfig {
        root: Some(folder.path().into()),
        ..config("0.parquet")
    };
    let source = ParquetSource::open(damaged).unwrap();
    assert_eq!(source.len(), 4);
    let error = source.get(0).unwrap_err().to_string();
    assert!(error.contains("0.parquet, row 0: the row group"), "{error}");
    assert_eq!(source.get(3).unwrap().key, "000000007");
}
