//! The members of a tar archive and where their bytes lie, also of an archive that is damaged.
//!
//! Headers are walked without reading the data. Formats: ustar, GNU long names, pax `path` and
//! `size`. Sparse members, which leave out their zeros, are told and not read. Where a header is damaged the walk goes on at the next valid one, which a streaming
//! reader cannot do.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use crate::error::Place;

const BLOCK: u64 = 512;

/// Extended names longer than this are damage, not names.
const MAX_EXTENSION: u64 = 1 << 20;

/// A regular file in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Path in the archive.
    pub name: String,
    /// First byte of the data.
    pub offset: u64,
    /// Bytes of data.
    pub size: u64,
}

/// What a walk over an archive found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contents {
    pub members: Vec<Member>,
    pub damage: Vec<(Place, String)>,
}

/// Walks the headers of an archive of `length` bytes.
pub(crate) fn scan(file: impl Read + Seek, length: u64) -> io::Result<Contents> {
    let mut walk = Walk {
        file: BufReader::with_capacity(4096, file),
        at: 0,
        length,
    };
    walk.file.seek(SeekFrom::Start(0))?;
    let mut contents = Contents::default();
    let mut name_override = None;
    let mut size_override = None;
    let mut sparse = false;
    let (mut start, mut ended) = (0, false);
    while start < length {
        let Some(header) = walk.block(start)? else {
            let what = "the archive is cut off in a header; the members before are used";
            contents.damage.push((Place::Byte(start), what.into()));
            ended = true;
            break;
        };
        if header.0.iter().all(|byte| *byte == 0) {
            match walk.next_header(start)? {
                None => {
                    ended = true;
                    break;
                }
                Some(next) => {
                    let what = format!("zeros instead of a header; reading goes on at byte {next}");
                    contents.damage.push((Place::Byte(start), what));
                    (start, name_override, size_override, sparse) = (next, None, None, false);
                    continue;
                }
            }
        }
        let Some(stored_size) = header.size().filter(|_| header.is_valid()) else {
            let next = walk.next_header(start)?;
            let resumed = match next {
                Some(next) => format!("reading goes on at byte {next}"),
                None => "no further header was found".to_string(),
            };
            contents
                .damage
                .push((Place::Byte(start), format!("a damaged header; {resumed}")));
            (start, name_override, size_override) = (next.unwrap_or(length), None, None);
            sparse = false; // said of the member that is damaged
            continue;
        };
        let data = start + BLOCK;
        let kind = header.kind(name_override.as_deref());
        match kind {
            Kind::File | Kind::Sparse => {
                let name = name_override.take().unwrap_or_else(|| header.name());
                let size = size_override.take().unwrap_or(stored_size);
                let data = match kind {
                    Kind::Sparse => walk.behind_sparse_map(start, &header)?,
                    _ => data,
                };
                let end = data.checked_add(size).filter(|end| *end <= length);
                let Some(end) = end else {
                    let what = "the archive is cut off in this member; those before are used";
                    contents.damage.push((Place::Member(name), what.into()));
                    ended = true;
                    break;
                };
                if kind == Kind::Sparse || std::mem::take(&mut sparse) {
                    let what = "a sparse file, which is not read; make the archive again without \
                                --sparse";
                    contents.damage.push((Place::Member(name), what.into()));
                } else {
                    contents.members.push(Member {
                        name,
                        offset: data,
                        size,
                    });
                }
                start = end.next_multiple_of(BLOCK);
            }
            Kind::LongName | Kind::Pax | Kind::Skipped => {
                let end = data.saturating_add(stored_size);
                if end > length {
                    let what = "the archive is cut off inside an extended header";
                    contents.damage.push((Place::Byte(start), what.into()));
                    ended = true;
                    break;
                }
                if kind != Kind::Skipped && stored_size <= MAX_EXTENSION {
                    let text = walk.read(data, stored_size as usize)?;
                    if kind == Kind::LongName {
                        name_override = Some(until_zero(&text));
                    } else {
                        let pax = Pax::parse(&text);
                        name_override = pax.sparse_name.or(pax.path).or(name_override);
                        size_override = pax.size.or(size_override);
                        sparse |= pax.sparse;
                    }
                }
                start = end.next_multiple_of(BLOCK);
            }
            Kind::NoData => {
                (name_override, size_override, sparse) = (None, None, false);
                start = data;
            }
        }
    }
    // Every writer closes an archive with blocks of zeros. One that stops at the end of a member, or
    // in the filling behind it, looks whole otherwise.
    if !ended && length > 0 {
        let what = "the archive has no end mark: it was cut off, or its writer did not finish; the \
                    members before are used";
        contents.damage.push((Place::Byte(length), what.into()));
    }
    Ok(contents)
}

/// A buffered file and where it stands, so that short forward moves stay inside the buffer.
struct Walk<R> {
    file: BufReader<R>,
    at: u64,
    length: u64,
}

impl<R: Read + Seek> Walk<R> {
    fn read(&mut self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn read_into(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.seek_relative(offset as i64 - self.at as i64)?;
        self.at = offset;
        self.file.read_exact(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The block at `offset`, or `None` if the file ends inside it.
    fn block(&mut self, offset: u64) -> io::Result<Option<Header>> {
        if offset + BLOCK > self.length {
            return Ok(None);
        }
        let mut header = Header([0; BLOCK as usize]);
        self.read_into(offset, &mut header.0)?;
        Ok(Some(header))
    }

    /// Where the data of a GNU sparse member begins: its map may go on in further blocks.
    fn behind_sparse_map(&mut self, start: u64, header: &Header) -> io::Result<u64> {
        let mut at = start + BLOCK;
        let mut goes_on = header.0[482] != 0;
        while goes_on {
            let Some(block) = self.block(at)? else { break };
            goes_on = block.0[504] != 0;
            at += BLOCK;
        }
        Ok(at)
    }

    /// The first block after `offset` that is surely a header.
    fn next_header(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        loop {
            offset += BLOCK;
            match self.block(offset)? {
                None => return Ok(None),
                Some(header) if header.has_magic() && header.is_valid() => return Ok(Some(offset)),
                Some(_) => continue,
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// A file without its zeros, in GNU's own form.
    Sparse,
    LongName,
    Pax,
    /// Metadata that follows as data but does not matter here.
    Skipped,
    /// Directories, links, devices: nothing follows, whatever the size field says.
    NoData,
}

struct Header([u8; BLOCK as usize]);

impl Header {
    /// What follows the header of a member whose full name may have come before it.
    fn kind(&self, long_name: Option<&str>) -> Kind {
        match self.0[156] {
            b'L' => Kind::LongName,
            b'x' => Kind::Pax,
            b'K' | b'g' => Kind::Skipped,
            b'S' => Kind::Sparse,
            b'1'..=b'6' => Kind::NoData,
            // Old archives mark a directory only by the slash at the end of its name.
            b'\0' if long_name.unwrap_or(&self.name()).ends_with('/') => Kind::NoData,
            _ => Kind::File,
        }
    }

    fn has_magic(&self) -> bool {
        &self.0[257..262] == b"ustar"
    }

    fn name(&self) -> String {
        let name = until_zero(&self.0[..100]);
        let prefix = until_zero(&self.0[345..500]);
        // GNU archives keep times where POSIX has the prefix; their magic goes on with a space.
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            format!("{prefix}/{name}")
        } else {
            name
        }
    }

    fn size(&self) -> Option<u64> {
        number(&self.0[124..136])
    }

    /// Whether the checksum holds. Some old writers summed signed bytes.
    fn is_valid(&self) -> bool {
        let Some(stored) = number(&self.0[148..156]) else {
            return false;
        };
        let byte = |(i, byte): (usize, &u8)| if (148..156).contains(&i) { b' ' } else { *byte };
        let unsigned: u64 = self.0.iter().enumerate().map(byte).map(u64::from).sum();
        let signed: i64 = self
            .0
            .iter()
            .enumerate()
            .map(byte)
            .map(|b| b as i8 as i64)
            .sum();
        stored == unsigned || i64::try_from(stored) == Ok(signed)
    }
}

/// Octal digits between optional blanks, or a big-endian number marked by its highest bit.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let clean = high
            .iter()
            .enumerate()
            .all(|(i, b)| if i == 0 { *b == 0x80 } else { *b == 0 });
        return clean.then(|| low.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(|c: char| c == '\0' || c == ' ');
    if digits.is_empty() {
        Some(0)
    } else {
        u64::from_str_radix(digits, 8).ok()
    }
}

fn until_zero(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// What the records of a pax header say about the member behind it.
#[derive(Default)]
struct Pax {
    path: Option<String>,
    size: Option<u64>,
    /// True if the member is stored without its zeros.
    sparse: bool,
    /// The member's name where `path` is a made-up one.
    sparse_name: Option<String>,
}

impl Pax {
    /// Reads records: `LENGTH key=value\n`, the length counting the whole record.
    fn parse(mut records: &[u8]) -> Self {
        let mut pax = Self::default();
        while let Some(space) = records.iter().position(|byte| *byte == b' ') {
            let length = std::str::from_utf8(&records[..space])
                .ok()
                .and_then(|n| n.parse::<usize>().ok());
            let Some(length) =
                length.filter(|length| *length > space + 1 && *length <= records.len())
            else {
                break;
            };
            let (record, rest) = records.split_at(length);
            let text = String::from_utf8_lossy(&record[space + 1..length - 1]);
            match text.split_once('=') {
                Some(("path", value)) => pax.path = Some(value.to_string()),
                Some(("size", value)) => pax.size = value.parse().ok(),
                Some(("GNU.sparse.name", value)) => pax.sparse_name = Some(value.to_string()),
                _ => {}
            }
            pax.sparse |= text.starts_with("GNU.sparse.");
            records = rest;
        }
        pax
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, name, data.as_slice())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn scan_bytes(bytes: &[u8]) -> Contents {
        scan(Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    fn data(bytes: &[u8], member: &Member) -> Vec<u8> {
        bytes[member.offset as usize..][..member.size as usize].to_vec()
    }

    fn three() -> Vec<(String, Vec<u8>)> {
        (0..3u8)
            .map(|i| (format!("{i}.jpg"), vec![i; 700]))
            .collect()
    }

    proptest! {
        #[test]
        fn members_are_those_the_tar_crate_reads(files in prop::collection::vec(
            ("[a-z]{1,8}(/[a-zA-Z0-9_.]{1,80}){1,3}", prop::collection::vec(any::<u8>(), 0..2000)), 0..12,
        )) {
            let plain = |name: String| name.replace("..", "x").replace("/.", "/x");
            let files: Vec<_> = files.into_iter().map(|(name, data)| (plain(name), data)).collect();
            let bytes = archive(&files);
            let contents = scan_bytes(&bytes);
            prop_assert_eq!(&contents.damage, &[]);
            let mut peer = tar::Archive::new(Cursor::new(&bytes));
            let expected: Vec<_> = peer.entries_with_seek().unwrap().map(|entry| {
                let mut entry = entry.unwrap();
                let mut data = Vec::new();
                entry.read_to_end(&mut data).unwrap();
                (entry.path().unwrap().to_str().unwrap().to_string(), entry.raw_file_position(), data)
            }).collect();
            let got: Vec<_> = contents
                .members
                .iter()
                .map(|m| (m.name.clone(), m.offset, data(&bytes, m)))
                .collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn no_bytes_make_the_walk_panic(noise in prop::collection::vec(any::<u8>(), 0..3000), at in 0usize..3000) {
            let mut bytes = archive(&three());
            scan_bytes(&noise);
            let at = at % bytes.len();
            let end = bytes.len().min(at + noise.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
            for member in scan_bytes(&bytes).members {
                prop_assert!(member.offset + member.size <= bytes.len() as u64);
            }
        }
    }

    #[test]
    fn a_damaged_header_costs_its_own_member_only() {
        let mut bytes = archive(&three());
        let second = scan_bytes(&bytes).members[1].offset as usize - 512;
        bytes[second + 20] ^= 0xff;
        let contents = scan_bytes(&bytes);
        let names: Vec<_> = contents.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["0.jpg", "2.jpg"]);
        assert_eq!(contents.damage.len(), 1);
        assert_eq!(contents.damage[0].0, Place::Byte(second as u64));
    }

    #[test]
    fn zeros_in_the_middle_do_not_end_the_archive() {
        let mut bytes = archive(&three());
        let second = scan_bytes(&bytes).members[1].offset as usize - 512;
        bytes[second..second + 512].fill(0);
        let contents = scan_bytes(&bytes);
        assert_eq!(contents.members.len(), 2);
        assert_eq!(contents.damage.len(), 1);
    }

    #[test]
    fn a_cut_archive_keeps_what_is_whole() {
        let bytes = archive(&three());
        let third = scan_bytes(&bytes).members[2].offset as usize;
        for (cut, member) in [(third + 100, "2.jpg"), (third + 699, "2.jpg")] {
            let contents = scan_bytes(&bytes[..cut]);
            assert_eq!(contents.members.len(), 2);
            assert_eq!(contents.damage[0].0, Place::Member(member.into()));
        }
        // Behind the last member's data nothing but the end mark tells that all is there.
        let padding = third + 700..third + 1024;
        for cut in [padding.start, padding.start + 50, padding.end] {
            let contents = scan_bytes(&bytes[..cut]);
            assert_eq!(contents.members.len(), 3);
            let (place, what) = &contents.damage[0];
            assert_eq!(*place, Place::Byte(cut as u64));
            assert!(what.contains("no end mark"), "{what}");
        }
        assert_eq!(scan_bytes(&bytes[..padding.end + 512]).damage, []);
        let in_header = scan_bytes(&bytes[..third - 300]);
        assert_eq!(in_header.members.len(), 2);
        assert_eq!(in_header.damage[0].0, Place::Byte(third as u64 - 512));
    }

    #[test]
    fn sparse_members_are_told_and_not_read() {
        // GNU's own form: one more block of the map, then as much data as the size field says.
        let mut header = tar::Header::new_gnu();
        header.set_path("hole.jpg").unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(700);
        header.as_gnu_mut().unwrap().isextended[0] = 1;
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend([0; 512]);
        bytes.extend([7; 1024]);
        bytes.extend(archive(&three()));
        let contents = scan_bytes(&bytes);
        assert_eq!(contents.members.len(), 3);
        let (place, what) = &contents.damage[0];
        assert_eq!(*place, Place::Member("hole.jpg".into()));
        assert!(what.contains("sparse"), "{what}");

        // POSIX's form: the member's header is an ordinary one.
        let mut builder = tar::Builder::new(Vec::new());
        let pax = record("GNU.sparse.major", "1") + &record("GNU.sparse.name", "hole.jpg");
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(pax.len() as u64);
        let name = "PaxHeaders/x";
        builder
            .append_data(&mut header, name, pax.as_bytes())
            .unwrap();
        for name in ["GNUSparseFile.1/hole.jpg", "whole.jpg"] {
            let mut header = tar::Header::new_ustar();
            header.set_size(3);
            builder
                .append_data(&mut header, name, b"abc".as_slice())
                .unwrap();
        }
        let contents = scan_bytes(&builder.into_inner().unwrap());
        let names: Vec<_> = contents.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["whole.jpg"]);
        assert_eq!(contents.damage[0].0, Place::Member("hole.jpg".into()));
    }

    fn record(key: &str, value: &str) -> String {
        let body = format!(" {key}={value}\n");
        let length = (1..)
            .find(|n: &usize| n.to_string().len() + body.len() == *n)
            .unwrap();
        format!("{length}{body}")
    }

    #[test]
    fn pax_paths_and_sizes_win_over_the_header() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = format!("{}/ü.jpg", "d".repeat(150));
        let pax = record("mtime", "1.5") + &record("path", &long) + &record("size", "3");
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(pax.len() as u64);
        builder
            .append_data(&mut header, "PaxHeaders/x", pax.as_bytes())
            .unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        builder
            .append_data(&mut header, "short", b"abc".as_slice())
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        let contents = scan_bytes(&bytes);
        assert_eq!(contents.members.len(), 1);
        assert_eq!(contents.members[0].name, long);
        assert_eq!(data(&bytes, &contents.members[0]), b"abc");
    }

    #[test]
    fn directories_and_links_are_no_members() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        builder
            .append_data(&mut header, "folder/", [].as_slice())
            .unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "folder/link.jpg", "a.jpg")
            .unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(archive(&three()));
        assert_eq!(scan_bytes(&bytes).members.len(), 3);
    }
}
