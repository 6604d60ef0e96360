//! A file of which no more is read than an honest one needs.

use std::io::{Cursor, Error, Read, Result, Seek, SeekFrom};

/// Bytes of which so many are given out as there are, twice, and then no more: the end of a zip archive is looked for from behind, and
/// each of a hundred thousand ends may name a directory of megabytes that turns out to be broken.
pub(super) struct Rations<'a> {
    bytes: Cursor<&'a [u8]>,
    left: usize,
}

/// What small archives have beyond twice their length: whoever looks for the end reads a kilobyte at a time.
const MORE: usize = 1 << 16;

impl<'a> Rations<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Cursor::new(bytes),
            left: bytes.len().saturating_mul(2).saturating_add(MORE),
        }
    }
}

impl Read for Rations<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.bytes.read(buffer)?;
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => {
                self.left = 0;
                return Err(Error::other("it names its contents again and again"));
            }
        }
        Ok(count)
    }
}

impl Seek for Rations<'_> {
    fn seek(&mut self, place: SeekFrom) -> Result<u64> {
        self.bytes.seek(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Parsed, SharedBytes, read_zip};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// The entry of a directory: where it lies, how long it is.
    fn entry(name: &[u8], size: usize) -> Vec<u8> {
        let size = (size as u32).to_le_bytes();
        let length = (name.len() as u16).to_le_bytes();
        let text = 0x0800u16.to_le_bytes(); // names are UTF-8
        let parts: [&[u8]; 9] = [
            b"PK\x01\x02\x14\0\x14\0",
            &text,
            &[0; 10],
            &size,
            &size,
            &length,
            &[0; 12],
            &[0; 4],
            name,
        ];
        parts.concat()
    }

    fn local(content: &[u8]) -> Vec<u8> {
        [b"PK\x03\x04", &[0; 26][..], content].concat()
    }

    fn end(entries: u16, start: usize) -> Vec<u8> {
        let count = entries.to_le_bytes();
        let start = (start as u32).to_le_bytes();
        [
            b"PK\x05\x06\0\0\0\0",
            &count[..],
            &count,
            &[0; 4],
            &start,
            &[0; 2],
        ]
        .concat()
    }

    #[track_caller]
    fn read_soon(bytes: Vec<u8>) -> Parsed {
        assert!(bytes.len() < 5 << 20);
        let shared: SharedBytes = Arc::new(bytes);
        let begin = Instant::now();
        let parsed = read_zip(&shared);
        // Unbounded, each of these takes minutes.
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{:?}",
            begin.elapsed()
        );
        parsed
    }

    #[test]
    fn an_archive_of_many_ends_is_refused_soon() {
        let head = local(b"");
        let entries = 60_000;
        let directory = entry(b"", 0).repeat(entries.into());
        // Each end names the whole directory and one entry more.
        let ends = end(entries + 1, head.len()).repeat(50_000);
        let said = read_soon([&head[..], &directory, &ends].concat())
            .err()
            .unwrap();
        assert!(said.contains("broken PyTorch archive"), "{said}");
        // Each end names a directory that is not there, and is looked for from the beginning.
        let said = read_soon([head, end(1, 0).repeat(180_000)].concat())
            .err()
            .unwrap();
        assert!(said.contains("again and again"), "{said}");
    }

    #[test]
    fn a_pickle_of_many_names_is_read_once() {
        let pickle = [b"\x80\x02", &b"N0".repeat(1 << 20)[..], b"}."].concat();
        let file = local(&pickle);
        let odd = |i: usize| 0x80 + (i & 0x3f) as u8; // alone it is no UTF-8
        let directory: Vec<u8> = (0..20_000)
            .flat_map(|i| {
                let folder = [odd(i), odd(i >> 6), odd(i >> 12)];
                entry(&[&folder[..], b"/data.pkl"].concat(), pickle.len())
            })
            .collect();
        let end = end(20_000, file.len());
        assert!(read_soon([file, directory, end].concat()).is_ok());
    }
}
