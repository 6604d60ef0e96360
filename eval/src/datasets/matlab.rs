//! As much of MATLAB's level 5 files as data sets need: `meta.mat` of ImageNet's devkit maps class numbers to WordNet ids,
//! and Flowers-102 keeps labels and splits in vectors.
//!
//! A file is a sequence of elements: a type, a length, and data padded to eight bytes. A struct array is a matrix
//! element that holds its field names and then the matrices of all fields of all entries.

use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use crate::error::{EvalError, Result};

const HEADER: usize = 128;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const STRUCT_CLASS: u8 = 2;

/// (ILSVRC2012_ID, WNID) of every entry of `synsets`.
pub(super) fn synset_ids(path: &Path) -> Result<Vec<(u32, String)>> {
    let bytes = std::fs::read(path).map_err(EvalError::io(path))?;
    let ids = bytes
        .get(HEADER..)
        .and_then(|bytes| find(bytes, MAX_UNPACKED, read_struct));
    ids.ok_or_else(|| {
        EvalError::format(
            path,
            "not the meta.mat of ILSVRC2012_devkit_t12: no synsets with ILSVRC2012_ID and WNID",
        )
    })
}

/// All numbers of the variable `name`, by columns.
pub(super) fn numbers(path: &Path, name: &str) -> Result<Vec<f64>> {
    let bytes = std::fs::read(path).map_err(EvalError::io(path))?;
    let found = bytes
        .get(HEADER..)
        .and_then(|bytes| find(bytes, MAX_UNPACKED, |matrix| read_numbers(matrix, name)));
    found.ok_or_else(|| {
        let reason = format!(
            "no numbers `{name}` in this file, or no MATLAB file (version 5); get it again"
        );
        EvalError::format(path, reason)
    })
}

/// What `read` makes of the first matrix that it can read.
fn find<T>(mut bytes: &[u8], mut room: u64, read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    while !bytes.is_empty() {
        let element = next(&mut bytes)?;
        let found = match element.kind {
            COMPRESSED => {
                let plain = unpack(&element, room)?;
                room -= plain.len() as u64;
                let mut plain = plain.as_slice();
                next(&mut plain).and_then(|inner| read(inner.data))
            }
            MATRIX => read(element.data),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Flags, dimensions, name, values.
fn read_numbers(mut matrix: &[u8], name: &str) -> Option<Vec<f64>> {
    (0..2).try_for_each(|_| next(&mut matrix).map(|_| ()))?;
    if next(&mut matrix)?.data != name.as_bytes() {
        return None;
    }
    let values = next(&mut matrix)?;
    let size = match values.kind {
        1 | 2 => 1,
        3 | 4 => 2,
        5..=7 => 4,
        9 => 8,
        _ => return None,
    };
    let one = |data| {
        number(&Element {
            kind: values.kind,
            data,
        })
    };
    values.data.chunks_exact(size).map(one).collect()
}

fn unpack(element: &Element, room: u64) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut unpacked = ZlibDecoder::new(element.data).take(room);
    unpacked.read_to_end(&mut plain).ok()?;
    Some(plain)
}

struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

/// Splits off one element. Up to four bytes of data may be packed into the tag itself.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<Element<'a>> {
    let tag = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    if tag >> 16 != 0 {
        let data = bytes.get(4..4 + (tag >> 16) as usize)?;
        *bytes = bytes.get(8..)?;
        return Some(Element {
            kind: tag & 0xffff,
            data,
        });
    }
    let len = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
    let data = bytes.get(8..8usize.checked_add(len)?)?;
    let padded = if tag == COMPRESSED {
        len
    } else {
        len.next_multiple_of(8)
    };
    *bytes = bytes.get((8 + padded).min(bytes.len())..)?;
    Some(Element { kind: tag, data })
}

/// Bytes that the compressed elements of a file are unpacked to at most; ImageNet's have 2 MB.
const MAX_UNPACKED: u64 = 64 << 20;

/// Flags, dimensions, name, length of a field name, field names, then the fields of entry 0, of entry 1, ...
fn read_struct(mut bytes: &[u8]) -> Option<Vec<(u32, String)>> {
    if *next(&mut bytes)?.data.first()? != STRUCT_CLASS {
        return None;
    }
    let dims = next(&mut bytes)?.data;
    let entries: usize = dims
        .chunks_exact(4)
        .map(|d| u32::from_le_bytes([d[0], d[1], d[2], d[3]]) as usize)
        .fold(1, usize::saturating_mul); // the data end before so many do
    next(&mut bytes)?; // name of the variable
    let name_len = number(&next(&mut bytes)?)? as usize;
    let names = next(&mut bytes)?.data;
    let fields: Vec<&[u8]> = names
        .chunks_exact(name_len.max(1))
        .map(|name| name.split(|&b| b == 0).next().unwrap_or_default())
        .collect();
    let id_field = fields.iter().position(|f| *f == b"ILSVRC2012_ID")?;
    let wnid_field = fields.iter().position(|f| *f == b"WNID")?;
    let mut found = Vec::new();
    for _ in 0..entries {
        let values: Vec<Element> = fields
            .iter()
            .map(|_| next(&mut bytes))
            .collect::<Option<_>>()?;
        let id = number(&content(values[id_field].data)?)?;
        found.push((id as u32, text(&content(values[wnid_field].data)?)?));
    }
    Some(found)
}

/// The data of a plain matrix: what follows flags, dimensions and name.
fn content(mut matrix: &[u8]) -> Option<Element<'_>> {
    (0..3).try_for_each(|_| next(&mut matrix).map(|_| ()))?;
    next(&mut matrix)
}

/// First value of a numeric element.
fn number(element: &Element) -> Option<f64> {
    let d = element.data;
    Some(match element.kind {
        1 => f64::from(*d.first()? as i8),
        2 => f64::from(*d.first()?),
        3 => f64::from(i16::from_le_bytes(d.get(..2)?.try_into().ok()?)),
        4 => f64::from(u16::from_le_bytes(d.get(..2)?.try_into().ok()?)),
        5 => f64::from(i32::from_le_bytes(d.get(..4)?.try_into().ok()?)),
        6 => f64::from(u32::from_le_bytes(d.get(..4)?.try_into().ok()?)),
        7 => f64::from(f32::from_le_bytes(d.get(..4)?.try_into().ok()?)),
        9 => f64::from_le_bytes(d.get(..8)?.try_into().ok()?),
        _ => return None,
    })
}

/// Characters of one byte (UTF-8) or two (UTF-16).
fn text(element: &Element) -> Option<String> {
    match element.kind {
        1 | 2 | 16 => String::from_utf8(element.data.to_vec()).ok(),
        4 | 17 => {
            let units = element
                .data
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]));
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `tests/reference/eval_meta_mat.py` with `scipy.io.savemat`, compressed and not.
    #[test]
    fn the_devkits_file_gives_ids_and_wnids() {
        for file in ["eval_meta.mat", "eval_meta_plain.mat"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../tests/fixtures")
                .join(file);
            let ids = synset_ids(&path).unwrap();
            let expected = [(1, "n02119789"), (300, "n02100735"), (1000, "n02110185")];
            assert_eq!(
                ids,
                expected.map(|(id, wnid)| (id, wnid.to_owned())),
                "{file}"
            );
        }
    }

    #[test]
    fn all_compressed_elements_together_have_an_end() {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &[0; 16]).unwrap();
        let packed = packed.finish().unwrap();
        let length = (packed.len() as u32).to_le_bytes();
        let element = [&COMPRESSED.to_le_bytes()[..], &length, &packed].concat();
        let read = |room: u64, times: usize| {
            let seen = std::cell::Cell::new(0);
            let count = |_: &[u8]| -> Option<()> {
                seen.set(seen.get() + 1);
                None
            };
            find(&element.repeat(times), room, count);
            seen.get()
        };
        assert_eq!(read(48, 3), 3);
        assert_eq!(read(32, 3), 2, "nothing is left for the third");
    }

    #[test]
    fn damaged_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.mat");
        let good = std::fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/eval_meta_plain.mat"),
        );
        let good = good.unwrap();
        for len in (0..good.len()).step_by(7) {
            std::fs::write(&path, &good[..len]).unwrap();
            assert!(synset_ids(&path).is_err(), "cut to {len} bytes");
        }
    }
}
