//! Arrays in NumPy's `.npy` format: stored embeddings and multi-hot labels.

mod write;

pub use write::{Float, RowWriter};

use half::f16;

/// An array of numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its numbers, converted to f32.
    pub values: Vec<f32>,
}

impl Array {
    /// The classes a multi-hot vector marks: the indices of its non-zero numbers.
    pub fn marked(&self) -> Vec<usize> {
        self.values
            .iter()
            .enumerate()
            .filter(|(_, value)| **value != 0.0)
            .map(|(index, _)| index)
            .collect()
    }
}

/// True if the bytes begin as an `.npy` file does.
pub fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

const MAGIC: &[u8] = b"\x93NUMPY";

/// What an `.npy` file says of its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// NumPy's name of the type of its numbers, such as `<f4`.
    pub descr: String,
    /// The shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where the numbers begin.
    pub start: usize,
}

impl Header {
    /// Reads the head of an `.npy` file, of which the numbers may be missing. The error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let cut_off = || "the .npy header is cut off".to_string();
        let (length_bytes, rest) = match bytes.strip_prefix(MAGIC) {
            None => return Err("not an .npy file (no \\x93NUMPY at its beginning)".into()),
            Some([1, _, rest @ ..]) => (2, rest),
            Some([2 | 3, _, rest @ ..]) => (4, rest),
            Some([version, ..]) => {
                return Err(format!(".npy format version {version} is not known"));
            }
            Some([]) => return Err(cut_off()),
        };
        let (length, rest) = rest.split_at_checked(length_bytes).ok_or_else(cut_off)?;
        let length = length
            .iter()
            .rev()
            .fold(0usize, |n, byte| n << 8 | usize::from(*byte));
        let header = rest.get(..length).ok_or_else(cut_off)?;
        let start = bytes.len() - rest.len() + length;
        let header = String::from_utf8_lossy(header);

        let value = |key: &str| -> Result<&str, String> {
            let missing = || {
                let start: String = header.chars().take(200).collect();
                format!("the .npy header has no {key}: {start}")
            };
            let (_, after) = header
                .split_once(&format!("'{key}':"))
                .ok_or_else(missing)?;
            Ok(after.trim_start())
        };
        let kind = value("descr")?
            .trim_start_matches('\'')
            .split('\'')
            .next()
            .unwrap_or_default();
        let shape = value("shape")?
            .strip_prefix('(')
            .and_then(|s| s.split_once(')'))
            .ok_or("a .npy shape is broken")?
            .0;
        let shape = shape
            .split(',')
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .map(|n| {
                n.parse::<usize>()
                    .map_err(|_| format!("a .npy dimension is `{n}`"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if value("fortran_order")?.starts_with("True") && shape.len() > 1 {
            return Err(
                "the .npy array is in Fortran order; save numpy.ascontiguousarray of it".into(),
            );
        }
        Ok(Self {
            descr: kind.to_owned(),
            shape,
            start,
        })
    }
}

/// Parses an `.npy` file of booleans, integers or floats. The error says what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Array, String> {
    let Header {
        descr,
        shape,
        start,
    } = Header::parse(bytes)?;
    let data = &bytes[start..];
    let values: Vec<f32> = match descr.as_str() {
        "<f4" => data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        "<f2" => data
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        "<f8" => eight(data).map(|b| f64::from_le_bytes(b) as f32).collect(),
        "<i8" => eight(data).map(|b| i64::from_le_bytes(b) as f32).collect(),
        "<u8" => eight(data).map(|b| u64::from_le_bytes(b) as f32).collect(),
        "<i4" => data
            .chunks_exact(4)
            .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32)
            .collect(),
        "|b1" | "|u1" => data.iter().map(|b| f32::from(*b)).collect(),
        "|i1" => data.iter().map(|b| f32::from(*b as i8)).collect(),
        other => {
            return Err(format!(
                "the .npy dtype `{other}` is not read; save it as float32"
            ));
        }
    };
    let expected = shape
        .iter()
        .try_fold(1usize, |n, dim| n.checked_mul(*dim))
        .ok_or("a .npy shape overflows")?;
    if values.len() < expected {
        return Err(format!(
            "the .npy array {shape:?} has only {} of its {expected} numbers",
            values.len()
        ));
    }
    Ok(Array {
        shape,
        values: values[..expected].to_vec(),
    })
}

fn eight(data: &[u8]) -> impl Iterator<Item = [u8; 8]> + '_ {
    data.chunks_exact(8)
        .map(|chunk| std::array::from_fn(|i| chunk[i]))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `numpy.save` writes for an array of this dtype, shape and data.
    pub(crate) fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn floats_and_multi_hot_labels_are_read() {
        let floats = parse(&npy("<f4", "(2,)", &[0, 0, 128, 63, 0, 0, 0, 192])).unwrap();
        assert_eq!(
            floats,
            Array {
                shape: vec![2],
                values: vec![1.0, -2.0]
            }
        );
        let halves = parse(&npy("<f2", "(1, 2)", &[0, 60, 0, 192])).unwrap();
        assert_eq!(
            halves,
            Array {
                shape: vec![1, 2],
                values: vec![1.0, -2.0]
            }
        );
        assert_eq!(
            parse(&npy("|b1", "(4,)", &[0, 1, 0, 1])).unwrap().marked(),
            [1, 3]
        );
        assert_eq!(
            parse(&npy("<i8", "()", &7i64.to_le_bytes()))
                .unwrap()
                .values,
            [7.0]
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(parse(b"abc").unwrap_err().contains("not an .npy"));
        assert!(
            parse(&npy("<f4", "(3,)", &[0; 8]))
                .unwrap_err()
                .contains("2 of its 3")
        );
        assert!(
            parse(&npy("<c8", "(1,)", &[0; 8]))
                .unwrap_err()
                .contains("<c8")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..100) {
            let mut bytes = npy("<f4", "(3,)", &[0; 12]);
            let at = at % bytes.len();
            let end = bytes.len().min(at + noise.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
            let _ = parse(&bytes);
            let _ = parse(&bytes[..at]);
        }
    }
}
