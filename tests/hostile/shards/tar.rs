//! Tar archives as GNU's tar, Python's tarfile and older programs write them.

use super::Place;
use crate::Dice;

/// A file in an archive.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub content: Vec<u8>,
}

/// How a name is told that is longer than its field.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Gnu,
    Pax,
    /// The folder apart from the name, where that is enough.
    Ustar,
}

const BLOCK: usize = 512;
/// Bytes of a name in a header, and of the folder before it.
const NAME: usize = 100;
const FOLDER: usize = 155;

/// The members, with what else may stand between them, and the end mark.
pub fn archive(dice: &mut Dice, members: &[Member], place: Place) -> Vec<u8> {
    let style = *dice.pick(&[Style::Gnu, Style::Pax, Style::Ustar]);
    let mut file = Vec::new();
    for member in members {
        file.extend(dice.only(place == Place::Between, |dice| between(dice, style)));
        let whole = |dice: &mut Dice| whole(dice, style, member);
        file.extend(dice.only(place == Place::Headers, whole));
    }
    let end = dice.only(place == Place::Headers, |dice| match dice.bad() {
        true => dice.below(2) * BLOCK,
        false => 2 * BLOCK,
    });
    file.resize(file.len() + end, 0);
    if dice.below(2) == 0 && end > 0 {
        file.resize(file.len().next_multiple_of(20 * BLOCK), 0); // a record of a tape
    }
    dice.only(place == Place::Bytes, |dice| dice.mangled(file.clone()))
}

/// A member with all that is said of it.
fn whole(dice: &mut Dice, style: Style, member: &Member) -> Vec<u8> {
    let Member { name, content } = member;
    let usual = name.len() <= NAME && dice.below(4) > 0;
    let split = |at: &usize| *at <= FOLDER && name.len() - at - 1 <= NAME;
    let mut slashes = name.match_indices('/').map(|(at, _)| at);
    match (style, slashes.find(split)) {
        _ if usual => header(dice, style, ["", name], b'0', content),
        (Style::Ustar, Some(at)) => {
            header(dice, style, [&name[..at], &name[at + 1..]], b'0', content)
        }
        (Style::Gnu, _) => {
            let long = [name.as_bytes(), b"\0"].concat();
            let mut bytes = header(dice, style, ["", "././@LongLink"], b'L', &long);
            bytes.extend(header(dice, style, ["", name], b'0', content));
            bytes
        }
        _ => {
            let mut records = record(dice, "path", name);
            if dice.below(2) == 0 {
                let size = dice.or_number(content.len() as u64).to_string();
                records.extend(record(dice, "size", &size));
            }
            let mut bytes = header(dice, style, ["PaxHeaders", "x"], b'x', &records);
            bytes.extend(header(dice, style, ["", name], b'0', content));
            bytes
        }
    }
}

/// What readers pass over, or must make sense of.
fn between(dice: &mut Dice, style: Style) -> Vec<u8> {
    if !dice.bad() {
        return match dice.below(10) {
            0 => header(dice, style, ["", "folder/"], b'5', b""),
            1 => header(dice, style, ["", "link"], b'2', b""),
            2 => {
                let comment = record(dice, "comment", "made by hand");
                header(dice, style, ["", "pax_global_header"], b'g', &comment)
            }
            3 => header(dice, style, ["", "README"], b'0', b"read me"),
            4 => header(dice, style, ["", "._000.jpg"], b'0', b"of a Mac"),
            5 => header(dice, style, ["__meta__", "x.json"], b'\0', b"{}"),
            _ => Vec::new(),
        };
    }
    let kind = *dice.pick(b"LLKxxxgS1234567VNMX\0");
    let content = match kind {
        b'x' | b'g' => {
            let keys = [
                "path",
                "path",
                "size",
                "GNU.sparse.name",
                "GNU.sparse.map",
                "linkpath",
                "mtime",
            ];
            let mut records = Vec::new();
            for _ in 0..1 + dice.below(3) {
                let key = *dice.pick(&keys);
                let value = match dice.below(2) {
                    0 => dice.number().to_string(),
                    _ => dice.text(),
                };
                records.extend(record(dice, key, &value));
            }
            records
        }
        _ => match dice.below(4) {
            0 => dice.noise(600),
            1 => Vec::new(),
            2 => vec![b'a'; 2 << 20],
            _ => dice.text().into_bytes(),
        },
    };
    let name = match dice.below(2) {
        0 => dice.text(),
        _ => "././@LongLink".into(),
    };
    header(dice, style, ["", &name], kind, &content)
}

/// `LENGTH key=value`, where the length is that of all of it.
fn record(dice: &mut Dice, key: &str, value: &str) -> Vec<u8> {
    let body = format!(" {key}={value}\n");
    let mut length = body.len();
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    format!("{}{body}", dice.or_number(length as u64)).into_bytes()
}

/// A block with folder and name, kind, size and checksum, then the content and what fills its last block.
fn header(
    dice: &mut Dice,
    style: Style,
    [folder, name]: [&str; 2],
    kind: u8,
    content: &[u8],
) -> Vec<u8> {
    let mut header = [0u8; BLOCK];
    let field = |header: &mut [u8], at: usize, length: usize, text: &[u8]| {
        let length = text.len().min(length);
        header[at..at + length].copy_from_slice(&text[..length]);
    };
    match (style, folder) {
        (Style::Gnu, _) => field(&mut header, 257, 8, b"ustar  \0"),
        (Style::Ustar, "") if dice.below(2) == 0 => {} // older than the mark
        _ => field(&mut header, 257, 8, b"ustar\x0000"),
    }
    match style {
        Style::Gnu if !folder.is_empty() => {
            field(&mut header, 0, NAME, format!("{folder}/{name}").as_bytes());
        }
        _ => {
            field(&mut header, 0, NAME, name.as_bytes());
            field(&mut header, 345, FOLDER, folder.as_bytes());
        }
    }
    field(&mut header, 100, 7, b"0000644");
    let size = dice.or_number(content.len() as u64);
    if size < 1 << 33 && dice.below(8) > 0 {
        field(&mut header, 124, 12, format!("{size:011o}\0").as_bytes());
    } else {
        header[124] = 0x80;
        field(&mut header, 128, 8, &size.to_be_bytes());
    }
    if dice.bad() {
        header[124] = *dice.pick(&[0xff, 0xc0, b'-', b'9', b' ']);
    }
    header[156] = kind;
    if dice.bad() {
        let at = 257 + dice.below(250);
        header[at] = *dice.pick(&[1, b'/', 0xff]);
    }
    field(&mut header, 148, 8, b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = match dice.bad() {
        true => dice.number() as u32 & 0o777_777,
        false => sum,
    };
    field(&mut header, 148, 8, format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&header[..], content].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}
