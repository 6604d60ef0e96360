//! Tables, lists of lines, rewrites and folders of class names.

use crate::{Dice, Said, json, pictures};
use clip_burn::data::csv::{CaptionColumn, Column, CsvConfig, CsvSource};
use clip_burn::data::folder::{FolderConfig, FolderSource};
use clip_burn::data::jsonl::{JsonlConfig, JsonlSource};
use clip_burn::data::text::{LinesConfig, LinesSource};
use clip_burn::data::{CaptionKind, Source};
use clip_burn::laclip::rewrite::Pool;
use serde_json::json;
use std::path::Path;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    said.write("a.png", pictures::small());
    match dice.below(4) {
        0 => csv(dice, said),
        1 => jsonl(dice, said),
        2 => folder(dice, said),
        _ => {
            let of_pool = dice.below(2) == 0;
            let pool = dice.only(of_pool, pool);
            let path = said.write("pool.json", pool);
            if let Some(pool) = said.hear(Pool::open(&path.display().to_string())) {
                pool.longest();
                pool.fingerprint();
            }
            let lines = dice.only(!of_pool, lines);
            let path = said.write("lines.txt", &lines);
            if let Some(source) = said.hear(LinesSource::open(LinesConfig::new(
                path.display().to_string(),
            ))) {
                for index in 0..source.len().min(5) {
                    said.hear(source.get(index));
                }
            }
        }
    }
}

/// Captions, each with the same in other words.
fn pool(dice: &mut Dice) -> Vec<u8> {
    let texts = |dice: &mut Dice| json!({"source": dice.or_text("a cat"), "target": dice.or_text("a small cat")});
    let pairs: Vec<_> = (0..4).map(|_| texts(dice)).collect();
    json::bytes(dice, json!({"name": "x", "pairs": pairs}))
}

fn lines(dice: &mut Dice) -> Vec<u8> {
    let mut lines = Vec::new();
    for _ in 0..1 + dice.below(20) {
        let line = dice.or_text("a cat");
        lines.extend(line.bytes());
        lines.extend(match dice.bad() {
            true => *dice.pick(&[&b"\r"[..], b"\xff\n", b""]),
            false => *dice.pick(&[&b"\n"[..], b"\r\n"]),
        });
    }
    lines
}

fn csv(dice: &mut Dice, said: &mut Said) {
    let separator = *dice.pick(&['\t', ',']);
    let (rows, of_table) = (1 + dice.below(8), dice.below(3) > 0);
    let file = dice.only(of_table, |dice| table(dice, separator, rows));
    let path = said.write("table.csv", file);
    let config = dice.only(!of_table, |dice| {
        config(dice, &*said, &path, separator, rows)
    });
    let words = ["cannot be used; take one ASCII character"];
    if let Some(source) = said.hear_in(CsvSource::open(config), &words) {
        for index in 0..source.len().min(5) {
            said.hear_in(source.get(index), crate::said::OTHER);
        }
    }
}

fn config(dice: &mut Dice, said: &Said, path: &Path, separator: char, rows: usize) -> CsvConfig {
    let mut config = CsvConfig {
        root: Some(said.path("")),
        separator: if dice.bad() {
            *dice.pick(&['"', '\n', 'ä', '\0', ';'])
        } else {
            separator
        },
        header: !dice.bad(),
        label: Some(Column::Name("label".into())),
        max_bad: 1.0,
        ..CsvConfig::new(path.to_path_buf())
    };
    if !config.header || dice.bad() {
        config.image = Column::Index(dice.or_number(0) as usize);
        let caption = Column::Index(dice.or_number(1) as usize);
        config.captions = vec![CaptionColumn::new(caption, CaptionKind::Web)];
        config.label = None;
    }
    if dice.bad() {
        let lines = format!("{}\n", dice.or_text("rewritten")).repeat(rows);
        let rewrites = dice.mangled(lines.into_bytes());
        config.rewrites = vec![said.write("rewrites.txt", rewrites)];
    }
    config
}

fn table(dice: &mut Dice, separator: char, rows: usize) -> Vec<u8> {
    let mut file = Vec::new();
    if dice.below(4) == 0 {
        file.extend([0xef, 0xbb, 0xbf]);
    }
    let row = |file: &mut Vec<u8>, cells: &[String], end: &str| {
        file.extend(cells.join(&separator.to_string()).bytes());
        file.extend(end.bytes());
    };
    let name = dice.or_text("title");
    row(&mut file, &["filepath".into(), name, "label".into()], "\n");
    for _ in 0..rows {
        let mut cells = vec![
            dice.or_text("a.png"),
            dice.or_text("a cat"),
            dice.or_number(1).to_string(),
        ];
        if dice.bad() {
            match dice.below(4) {
                0 => cells.truncate(1),
                1 => cells.extend(vec![String::new(); 100_000]),
                2 => cells[1] = "\"a quote\nthat is not closed".into(),
                _ => cells[1] = format!("\"{}\"", "\"\"".repeat(1000)),
            }
        }
        let end = if dice.bad() { "\r" } else { "\n" };
        row(&mut file, &cells, end);
        if dice.bad() {
            file.extend(dice.noise(20));
        }
    }
    dice.mangled(file)
}

fn jsonl(dice: &mut Dice, said: &mut Said) {
    let rows = 1 + dice.below(6);
    let file = dice.evenly(|dice| objects(dice, rows));
    let path = said.write("list.jsonl", file);
    let config = JsonlConfig {
        root: Some(said.path("")),
        label: Some("label".into()),
        max_bad: 1.0,
        ..JsonlConfig::new(path)
    };
    if let Some(source) = said.hear(JsonlSource::open(config)) {
        for index in 0..source.len().min(5) {
            said.hear_in(source.get(index), crate::said::OTHER);
        }
    }
}

fn objects(dice: &mut Dice, rows: usize) -> Vec<u8> {
    let mut file = Vec::new();
    for _ in 0..rows {
        let object = json!({"image": "a.png", "caption": ["a cat", "a dog"], "label": 3});
        file.extend(json::bytes(dice, object));
        file.extend(*dice.pick(&[&b"\n"[..], b"\r\n", b"\n\n"]));
    }
    file
}

fn folder(dice: &mut Dice, said: &mut Said) {
    for class in ["cat", "dog"] {
        said.write(&format!("images/{class}/a.png"), pictures::small());
        if dice.bad() {
            said.write(&format!("images/{class}/a.txt"), dice.text());
        }
    }
    let root = said.path("images");
    if dice.bad() {
        let target = *dice.pick(&["..", "/dev/zero", "cat", "/absent", "loop"]);
        let _ = std::os::unix::fs::symlink(
            target,
            root.join(*dice.pick(&["loop", "cat/b.png", "dog/loop"])),
        );
    }
    let names = dice.or_text("cat\ndog");
    let names = said.write("names.txt", names);
    let config = FolderConfig {
        classnames: dice.bad().then_some(names),
        ..FolderConfig::new(root)
    };
    if let Some(source) = said.hear(FolderSource::open(config)) {
        for index in 0..source.len().min(5) {
            said.hear(source.get(index));
        }
    }
}
