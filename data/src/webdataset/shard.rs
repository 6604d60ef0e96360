//! The samples of one shard: members grouped by key, without their data.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::cache::IndexCache;
use super::tar::{self, Contents, Member};
use crate::error::{DataError, Place};

/// Where one member's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub offset: u64,
    pub size: u32,
    /// Index of the extension in the list the shard was opened with.
    pub extension: u8,
}

/// Sixteen bytes a sample, so that tens of millions fit in memory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key_start: u32,
    key_len: u16,
    parts: u8,
    first_part: u32,
    /// Index of the sample of the same key in the sibling shard of embeddings.
    sibling: u32,
}

/// An indexed shard. No file is kept open: ten thousand shards need no raised limit of open files.
#[derive(Debug)]
pub(crate) struct Shard {
    pub path: PathBuf,
    keys: String,
    parts: Vec<Part>,
    entries: Vec<Entry>,
}

/// One sample of a shard.
#[derive(Clone, Copy)]
pub(crate) struct Grouped<'a> {
    pub key: &'a str,
    pub parts: &'a [Part],
    pub sibling: usize,
}

impl Grouped<'_> {
    pub fn has(&self, extension: u8) -> bool {
        self.parts.iter().any(|part| part.extension == extension)
    }
}

impl Shard {
    /// Indexes the members that have one of `extensions` (lower case). Also returns what is
    /// damaged.
    pub fn open(
        path: &Path,
        extensions: &[String],
        cache: &IndexCache,
    ) -> Result<(Self, Vec<(Place, String)>), DataError> {
        let contents = match cache.load(path) {
            Some(contents) => contents,
            None => {
                let contents = scan_file(path)?;
                cache.store(path, &contents);
                contents
            }
        };
        let Contents {
            members,
            mut damage,
        } = contents;
        let mut shard = Self {
            path: path.to_path_buf(),
            keys: String::new(),
            parts: Vec::new(),
            entries: Vec::new(),
        };
        for member in members {
            let Some((key, extension)) = split_name(&member.name) else {
                continue;
            };
            let Some(extension) = extensions.iter().position(|e| *e == extension) else {
                continue;
            };
            let sizes = (u32::try_from(member.size), u16::try_from(key.len()));
            let fits = u32::try_from(shard.keys.len()).is_ok();
            let (Ok(size), Ok(_), true) = (sizes.0, sizes.1, fits) else {
                damage.push((
                    Place::Member(member.name),
                    "data above 4 GiB, a name above 64 KiB or all names above 4 GiB".into(),
                ));
                continue;
            };
            shard.add(
                key,
                Part {
                    offset: member.offset,
                    size,
                    extension: extension as u8,
                },
            );
        }
        Ok((shard, damage))
    }

    /// A member joins the sample before it if it has the same key and brings a new extension.
    fn add(&mut self, key: &str, part: Part) {
        let joins = self
            .entries
            .len()
            .checked_sub(1)
            .map(|last| self.sample(last))
            .is_some_and(|last| last.key == key && !last.has(part.extension));
        if !joins {
            self.entries.push(Entry {
                key_start: self.keys.len() as u32,
                key_len: key.len() as u16,
                parts: 0,
                first_part: self.parts.len() as u32,
                sibling: 0,
            });
            self.keys.push_str(key);
        }
        self.parts.push(part);
        if let Some(entry) = self.entries.last_mut() {
            entry.parts += 1;
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// # Panics
    ///
    /// Panics if `index` is not below [`Shard::len`].
    pub fn sample(&self, index: usize) -> Grouped<'_> {
        let entry = &self.entries[index];
        Grouped {
            key: &self.keys[entry.key_start as usize..][..entry.key_len as usize],
            parts: &self.parts[entry.first_part as usize..][..entry.parts as usize],
            sibling: entry.sibling as usize,
        }
    }

    /// Keeps the samples for which `sibling` finds a place in another shard; it is called with each
    /// index.
    pub fn retain(&mut self, mut sibling: impl FnMut(usize, Grouped<'_>) -> Option<usize>) {
        let links: Vec<_> = (0..self.len())
            .map(|index| sibling(index, self.sample(index)))
            .collect();
        let mut links = links.into_iter();
        self.entries
            .retain_mut(|entry| match links.next().flatten() {
                Some(link) => {
                    entry.sibling = link as u32;
                    true
                }
                None => false,
            });
    }

    /// Reads the data of a member from the shard's open file.
    pub fn read(&self, file: &mut File, part: Part, key: &str) -> Result<Vec<u8>, DataError> {
        read_part(&self.path, file, part, key)
    }

    pub fn open_file(&self) -> Result<File, DataError> {
        open_file(&self.path)
    }
}

pub(super) fn open_file(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|error| DataError::io(path, error))
}

/// Reads the data of a member of the open shard at `path`; `key` is for messages.
pub(super) fn read_part(
    path: &Path,
    file: &mut File,
    part: Part,
    key: &str,
) -> Result<Vec<u8>, DataError> {
    let mut bytes = vec![0; part.size as usize];
    let read = file
        .seek(SeekFrom::Start(part.offset))
        .and_then(|_| file.read_exact(&mut bytes));
    read.map_err(|error| {
        let what = format!("{error}; if the shard was replaced while in use, start again");
        DataError::malformed(path, Place::Member(key.to_string()), what)
    })?;
    Ok(bytes)
}

fn scan_file(path: &Path) -> Result<Contents, DataError> {
    let io = |error| DataError::io(path, error);
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut magic = Vec::new();
    (&mut file).take(2).read_to_end(&mut magic).map_err(io)?;
    if magic == [0x1f, 0x8b] {
        let what = "the archive is gzip-compressed, which has no random access; gunzip it first";
        return Err(DataError::malformed(path, Place::Whole, what));
    }
    if length == 0 {
        return Err(DataError::malformed(
            path,
            Place::Whole,
            "the file is empty; fetch it again",
        ));
    }
    let contents = tar::scan(file, length).map_err(io)?;
    if contents.members.is_empty() && !contents.damage.is_empty() {
        return Err(DataError::malformed(
            path,
            Place::Whole,
            "this is no tar archive, or nothing of it is whole",
        ));
    }
    Ok(contents)
}

/// Members of an archive that belong together, with their extensions in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarSample {
    /// What their names begin with.
    pub key: String,
    /// Extension and place of each, in their order.
    pub parts: Vec<(String, Member)>,
}

impl TarSample {
    /// By the rule of [`Shard::add`].
    pub(super) fn group(members: Vec<Member>) -> Vec<Self> {
        let mut samples: Vec<Self> = Vec::new();
        for member in members {
            let Some((key, extension)) = split_name(&member.name) else {
                continue;
            };
            let key = key.to_string();
            match samples.last_mut() {
                Some(last) if last.key == key && last.part(&extension).is_none() => {
                    last.parts.push((extension, member));
                }
                _ => samples.push(Self {
                    key,
                    parts: vec![(extension, member)],
                }),
            }
        }
        samples
    }

    /// The member with an extension, given in lower case.
    pub fn part(&self, extension: &str) -> Option<&Member> {
        let mut parts = self.parts.iter();
        parts
            .find(|(e, _)| e == extension)
            .map(|(_, member)| member)
    }
}

/// Splits a member's name at the first dot of its last component: `a/b.c/0001.seg.PNG` is key
/// `a/b.c/0001`, extension
/// `seg.png`. Hidden files and webdataset's `__meta__` members belong to no sample.
fn split_name(name: &str) -> Option<(&str, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    let meta = name
        .split('/')
        .any(|part| part.len() > 4 && part.starts_with("__") && part.ends_with("__"));
    (dot > base && !meta).then(|| (&name[..dot], name[dot + 1..].to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_the_first_dot_of_the_last_component() {
        let split = |name| split_name(name).map(|(key, extension)| (key.to_string(), extension));
        let pair = |a: &str, b: &str| Some((a.to_string(), b.to_string()));
        assert_eq!(split("000.jpg"), pair("000", "jpg"));
        assert_eq!(split("a/000.JPG"), pair("a/000", "jpg"));
        assert_eq!(split("a.b/000.seg.PNG"), pair("a.b/000", "seg.png"));
        assert_eq!(split("a/._000.jpg"), None);
        assert_eq!(split("noext"), None);
        assert_eq!(split("__meta__/info.json"), None);
    }

    #[test]
    fn samples_are_grouped_by_one_rule() {
        let names = ["a.x", "a.y", "._a.x", "b.x", "b.X", "__meta__/a.x", "a.y"];
        let member = |name: &&str| Member {
            name: name.to_string(),
            offset: 0,
            size: 1,
        };
        let samples = TarSample::group(names.iter().map(member).collect());
        let groups: Vec<_> = samples.iter().map(|s| (&*s.key, s.parts.len())).collect();
        assert_eq!(groups, [("a", 2), ("b", 1), ("b", 1), ("a", 1)]);
        assert_eq!(samples[0].part("y").unwrap().name, "a.y");
    }

    #[test]
    fn members_of_one_key_in_a_row_are_one_sample() {
        let mut shard = Shard {
            path: "x".into(),
            keys: String::new(),
            parts: vec![],
            entries: vec![],
        };
        let part = |extension| Part {
            offset: 0,
            size: 1,
            extension,
        };
        for (key, extension) in [("a", 0), ("a", 1), ("b", 0), ("b", 0), ("a", 1)] {
            shard.add(key, part(extension));
        }
        let groups: Vec<_> = (0..shard.len())
            .map(|i| (shard.sample(i).key, shard.sample(i).parts.len()))
            .collect();
        assert_eq!(groups, [("a", 2), ("b", 1), ("b", 1), ("a", 1)]);
        shard.retain(|index, sample| (sample.key == "b").then_some(index * 10));
        assert_eq!(shard.len(), 2);
        assert_eq!(shard.sample(1).sibling, 20);
    }
}
