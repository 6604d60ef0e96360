//! Tables, good and bad.

use std::fs;

use super::*;
use proptest::prelude::*;
use tempfile::TempDir;

/// A folder with `a.csv` and five images `0.jpg` ... whose bytes are their number.
fn folder(table: impl AsRef<[u8]>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), table).unwrap();
    for i in 0..5u8 {
        fs::write(folder.path().join(format!("{i}.jpg")), [i]).unwrap();
    }
    folder
}

fn open_clip(folder: &TempDir) -> CsvConfig {
    CsvConfig {
        root: Some(folder.path().into()),
        max_bad: 1.0,
        ..CsvConfig::new(folder.path().join("a.csv"))
    }
}

fn laclip(folder: &TempDir, rewrites: &[(&str, &str)]) -> CsvConfig {
    let files = rewrites.iter().map(|(name, text)| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    });
    CsvConfig::laclip(folder.path().join("a.csv"), folder.path(), files.collect())
}

fn captions(source: &CsvSource) -> Vec<String> {
    (0..source.len())
        .map(|i| source.get(i).unwrap().captions.web.join("|"))
        .collect()
}

fn told(source: &CsvSource) -> Vec<String> {
    source
        .problems()
        .iter()
        .map(|problem| format!("{}: {}", problem.place, problem.what))
        .collect()
}

#[test]
fn open_clips_table_is_read_by_column_names() {
    let folder = folder("id\ttitle\tfilepath\n7\ta \"\"cat\t0.jpg\n8\t\"a\n\"\"dog\"\"\"\t1.jpg\n");
    let source = CsvSource::open(open_clip(&folder)).unwrap();
    assert_eq!(captions(&source), ["a \"\"cat", "a\n\"dog\""]);
    let sample = source.get(1).unwrap();
    assert_eq!((sample.key.as_str(), sample.image), ("1.jpg", vec![1]));
}

#[test]
fn a_missing_column_is_named_with_those_there() {
    let folder = folder("path,caption\n0.jpg,x\n");
    let error = CsvSource::open(open_clip(&folder)).unwrap_err().to_string();
    assert!(
        error.contains("a.csv, line 1")
            && error.contains("`filepath`")
            && error.contains("path,caption"),
        "{error}"
    );
}

#[test]
fn short_rows_and_broken_utf8_are_counted_and_named() {
    let mut table = b"filepath\ttitle\n0.jpg\tgood\n1.jpg\n".to_vec();
    table.extend(b"2.jpg\tbad \xff\xfe caption\n\xff.jpg\tx\n3.jpg\t \n4.jpg\tlast");
    let folder = folder(&table);
    let source = CsvSource::open(open_clip(&folder)).unwrap();
    assert_eq!(
        captions(&source),
        ["good", "bad \u{fffd}\u{fffd} caption", "last"]
    );
    assert_eq!(
        told(&source),
        [
            ", line 3: 1 columns instead of at least 2",
            ", line 4: broken UTF-8 in a caption was replaced by U+FFFD",
            ", line 5: the image path is empty or not UTF-8",
            ", line 6: the caption is empty",
        ]
    );
    let skip = CsvConfig {
        broken_utf8: BrokenUtf8::Skip,
        ..open_clip(&folder)
    };
    assert_eq!(captions(&CsvSource::open(skip).unwrap()), ["good", "last"]);
    let strict = CsvConfig {
        max_bad: 0.4,
        ..open_clip(&folder)
    };
    let error = CsvSource::open(strict).unwrap_err().to_string();
    assert!(
        error.contains("3 of 6 rows") && error.contains("line 3"),
        "{error}"
    );
}

#[test]
fn an_unclosed_quote_is_not_taken_for_a_caption() {
    for rows in [3, 200_000] {
        let table = "filepath\ttitle\n0.jpg\tgood\n1.jpg\t\"open".to_string();
        let folder = folder(table + &"\n2.jpg\tx".repeat(rows));
        let source = CsvSource::open(open_clip(&folder)).unwrap();
        assert_eq!(captions(&source), ["good"]);
        let told = told(&source);
        assert_eq!(told.len(), 1);
        let expected = format!("never closed: it and the {rows} lines behind it are lost");
        assert!(
            told[0].contains("line 3") && told[0].contains(&expected),
            "{told:?}"
        );
        let strict = CsvConfig {
            max_bad: 0.5,
            ..open_clip(&folder)
        };
        let error = CsvSource::open(strict).unwrap_err().to_string();
        let share = format!("{} of {} rows", rows + 1, rows + 2);
        assert!(error.contains(&share), "{error}");
    }
    // A quote that a later row closes swallows as many rows.
    let table = "filepath\ttitle\n0.jpg\tgood\n1.jpg\t\"open".to_string();
    let folder = self::folder(table + &"\n2.jpg\tx".repeat(200_000) + "\n2.jpg\t\"x\"\n3.jpg\ty");
    let source = CsvSource::open(open_clip(&folder)).unwrap();
    assert_eq!(captions(&source), ["good", "y"]);
    assert!(told(&source)[0].contains("closed far too late"));
    let strict = CsvConfig {
        max_bad: 0.5,
        ..open_clip(&folder)
    };
    let error = CsvSource::open(strict).unwrap_err().to_string();
    assert!(error.contains("200002 of 200004 rows"), "{error}");
    // Quotes inside of a caption are no quotes of the table.
    let folder = self::folder("filepath\ttitle\n0.jpg\ta 5\" pipe\n1.jpg\ta \"cat\n");
    let source = CsvSource::open(open_clip(&folder)).unwrap();
    assert_eq!(captions(&source), ["a 5\" pipe", "a \"cat"]);
}

#[test]
fn a_table_reports_its_captions_and_what_was_left_out() {
    let folder = folder("0.jpg,a\n9.JPG,x\n1.jpg,b\n2.jpg\n3.jpg,\n");
    let config = CsvConfig {
        max_bad: 0.5,
        ..laclip(
            &folder,
            &[("b.txt", "r0\n\nr2\nr3\n"), ("c.txt", "s\ns\ns\ns\n")],
        )
    };
    let source = CsvSource::open(config).unwrap();
    let reports = source.reports();
    let report = reports[0].to_string();
    let said = "3 samples; in them 2 web captions, 5 rewrites, 0 synthetic captions; left out: 1 × 1 columns instead";
    assert!(report.contains(said), "{report}");
    assert!(
        report.contains("1 × the file name is not one of an image"),
        "{report}"
    );
}

#[test]
fn empty_and_wrong_tables_are_refused() {
    for (table, expected) in [
        ("", "no column"),
        ("filepath\ttitle\n", "no rows"),
        ("filepath\ttitle\n0.jpg", "1 columns"),
    ] {
        let error = CsvSource::open(open_clip(&folder(table)))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let folder = folder("");
    let missing = CsvConfig::new(folder.path().join("b.csv"));
    assert!(
        CsvSource::open(missing)
            .unwrap_err()
            .to_string()
            .contains("b.csv")
    );
    let separator = CsvConfig {
        separator: '→',
        ..open_clip(&folder)
    };
    assert!(
        CsvSource::open(separator)
            .unwrap_err()
            .to_string()
            .contains("ASCII")
    );
}

#[test]
fn a_missing_image_is_an_error_that_names_it() {
    let folder = folder("filepath\ttitle\nno.jpg\tx\n");
    let error = CsvSource::open(open_clip(&folder))
        .unwrap()
        .get(0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no.jpg"), "{error}");
}

#[test]
fn rewrites_follow_the_rows_that_count() {
    // The header and the upper-case extension do not count by LaCLIP's rule.
    let folder = folder("image,caption\n0.jpg,\"zero, a\",http://x\n9.JPG,x\n1.jpg,one\n");
    let config = laclip(
        &folder,
        &[("b.txt", "zero b\none b\n"), ("c.txt", "\none c")],
    );
    let source = CsvSource::open(config).unwrap();
    assert_eq!(captions(&source), ["zero, a", "one"]);
    assert_eq!(source.get(0).unwrap().captions.rewrites, ["zero b", ""]);
    assert_eq!(source.get(1).unwrap().captions.rewrites, ["one b", "one c"]);
}

#[test]
fn a_blank_rewrite_does_not_shift_those_of_later_files() {
    let folder = folder("0.jpg,a\n1.jpg,b\n");
    let files = [
        ("b.txt", " \nrb 1\n"),
        ("c.txt", "rc 0\n\n"),
        ("d.txt", "rd 0\nrd 1\n"),
    ];
    let source = CsvSource::open(laclip(&folder, &files)).unwrap();
    let rewrites = |row| source.get(row).unwrap().captions.rewrites;
    assert_eq!(rewrites(0), ["", "rc 0", "rd 0"]);
    assert_eq!(rewrites(1), ["rb 1", "", "rd 1"]);
}

#[test]
fn an_unusable_row_still_takes_its_line() {
    let folder = folder("0.jpg,a\n1.jpg\n2.jpg\n3.jpg,d\n4.jpg\n0.jpg,f\n");
    let text: String = (0..6).map(|i| format!("r{i}\n")).collect();
    let config = CsvConfig {
        max_bad: 0.5,
        ..laclip(&folder, &[("b.txt", &text)])
    };
    let source = CsvSource::open(config).unwrap();
    let rewrites: Vec<_> = (0..3)
        .map(|i| source.get(i).unwrap().captions.rewrites[0].clone())
        .collect();
    assert_eq!(rewrites, ["r0", "r3", "r5"]);
}

#[test]
fn a_table_may_list_the_images_several_times() {
    let folder = folder("0.jpg,a\n1.jpg,b\n2.jpg,c\n3.jpg,d\n");
    let source = CsvSource::open(laclip(&folder, &[("b.txt", "x\ny\n")])).unwrap();
    let rewrites: Vec<_> = (0..4)
        .map(|i| source.get(i).unwrap().captions.rewrites[0].clone())
        .collect();
    assert_eq!(rewrites, ["x", "y", "x", "y"]);
}

#[test]
fn counts_that_do_not_agree_are_an_error_with_all_counts() {
    let folder = folder("0.jpg,a\n1.jpg,b\n2.JPG,c\n");
    for rewrites in [
        vec![("b.txt", "x\ny\nz\n")],
        vec![("b.txt", "x\ny\n"), ("c.txt", "x\n")],
        vec![("b.txt", "")],
    ] {
        let error = CsvSource::open(laclip(&folder, &rewrites))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("2 rows count")
                && error.contains("1 do not")
                && error.contains("b.txt has"),
            "{error}"
        );
    }
    // With upper-case extensions counted, three lines fit.
    let config = laclip(&folder, &[("b.txt", "x\ny\nz\n")]);
    assert!(
        CsvSource::open(CsvConfig {
            image_extensions: ImageExtensions::Common,
            ..config
        })
        .is_ok()
    );
}

#[test]
fn a_lone_carriage_return_is_a_line_end_only_if_the_counts_need_it() {
    let folder = folder("0.jpg,a\n1.jpg,b\n");
    let inside = CsvSource::open(laclip(&folder, &[("b.txt", "x\rx\ny\n")])).unwrap();
    assert_eq!(inside.get(0).unwrap().captions.rewrites, ["x\rx"]);
    let between = CsvSource::open(laclip(&folder, &[("b.txt", "x\ry")])).unwrap();
    assert_eq!(between.get(1).unwrap().captions.rewrites, ["y"]);
}

#[test]
fn a_caption_of_two_lines_is_one_row_and_further_columns_do_not_count() {
    let folder = folder("0.jpg,\"two\nlines\",http://x,y\n1.jpg,b,http://x\n2.jpg,c\n");
    let source = CsvSource::open(laclip(&folder, &[("b.txt", "r0\nr1\nr2\n")])).unwrap();
    assert_eq!(captions(&source), ["two\nlines", "b", "c"]);
    assert_eq!(source.get(2).unwrap().captions.rewrites, ["r2"]);
}

#[test]
fn counts_by_both_line_ends_are_told() {
    let folder = folder("0.jpg,a\n1.jpg,b\n2.jpg,c\n3.jpg,d\n4.jpg,e\n");
    let error = CsvSource::open(laclip(&folder, &[("b.txt", "x\ry\nz\n")])).unwrap_err();
    let said = "2 lines (3 if a lone \\r ends a line)";
    assert!(error.to_string().contains(said), "{error}");
}

#[test]
fn caption_columns_have_kinds_and_labels_are_numbers() {
    let folder =
        folder("Image Path,raw_caption,longSV_captions,class\n0.jpg,w,s,3\n1.jpg,w,s,cat\n");
    let column = |name: &str, kind| CaptionColumn {
        weight: Some(2.0),
        ..CaptionColumn::new(Column::Name(name.into()), kind)
    };
    let config = CsvConfig {
        separator: ',',
        image: Column::Name("Image Path".into()),
        captions: vec![
            column("raw_caption", CaptionKind::Web),
            column("longSV_captions", CaptionKind::Synthetic),
        ],
        label: Some(Column::Name("class".into())),
        ..open_clip(&folder)
    };
    let source = CsvSource::open(config).unwrap();
    let sample = source.get(0).unwrap();
    assert_eq!(sample.captions.weights, [vec![2.0], vec![], vec![2.0]]);
    assert_eq!(sample.captions.fields[2], ["longSV_captions"]);
    assert_eq!(
        (sample.captions.web, sample.captions.synthetic, sample.label),
        (vec!["w".into()], vec!["s".into()], Some(3))
    );
    assert!(source.get(1).unwrap_err().to_string().contains("`cat`"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_read_by_offset_are_those_read_in_order(rows in prop::collection::vec("[a-z\" ,\n\t]{1,12}", 1..30)) {
        let mut writer = ::csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
        writer.write_record(["filepath", "title"]).unwrap();
        rows.iter().for_each(|caption| writer.write_record(["0.jpg", caption]).unwrap());
        let folder = folder(writer.into_inner().unwrap());
        let Ok(source) = CsvSource::open(open_clip(&folder)) else {
            prop_assert!(rows.iter().all(|row| row.trim().is_empty()));
            return Ok(());
        };
        let expected: Vec<_> = rows.into_iter().filter(|row| !row.trim().is_empty()).collect();
        prop_assert_eq!(captions(&source), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(table in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = folder(&table);
        let image = Column::Index(0);
        let config = CsvConfig { header: false, image, captions: vec![], ..open_clip(&folder) };
        if let Ok(source) = CsvSource::open(config) {
            (0..source.len()).for_each(|i| drop(source.get(i)));
        }
    }
}
