//! Shard indices kept between runs, so that headers are walked once.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::tar::{Contents, Member};

/// Where indices are kept. One that does not fit the shard's size and time of change is made anew;
/// one that cannot be written is done without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexCache {
    /// Nowhere: shards are indexed each time they are opened. Quick on local disks.
    #[default]
    None,
    /// Beside each shard, as `00000.tar.index.json`.
    Beside,
    /// In a folder.
    Directory(PathBuf),
}

/// What is stored, with what it is checked against.
#[derive(Serialize, Deserialize)]
struct Stored<C> {
    version: u32,
    shard: PathBuf,
    stamp: Stamp,
    contents: C,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    changed_ns: u128,
}

/// 2: indices tell sparse members and missing end marks.
const VERSION: u32 = 2;

impl IndexCache {
    /// The index of a shard, if one is kept and still fits.
    pub(crate) fn load(&self, shard: &Path) -> Option<Contents> {
        let bytes = fs::read(self.file(shard)?).ok()?;
        let stored: Stored<Contents> = serde_json::from_slice(&bytes).ok()?;
        let inside = |member: &Member| {
            let end = member.offset.checked_add(member.size);
            end.is_some_and(|end| end <= stored.stamp.size)
        };
        let fits = stored.version == VERSION
            && stored.shard == absolute(shard)
            && stored.stamp == stamp(shard)?
            && stored.contents.members.iter().all(inside);
        fits.then_some(stored.contents)
    }

    /// Keeps the index of a shard if possible. It is moved into place whole, as several processes
    /// may write it.
    pub(crate) fn store(&self, shard: &Path, contents: &Contents) {
        let (Some(file), Some(stamp)) = (self.file(shard), stamp(shard)) else {
            return;
        };
        let stored = Stored {
            version: VERSION,
            shard: absolute(shard),
            stamp,
            contents,
        };
        let (Some(folder), Ok(bytes)) = (file.parent(), serde_json::to_vec(&stored)) else {
            return;
        };
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        if fs::create_dir_all(folder).is_err() {
            return;
        }
        if let Ok(mut temporary) = tempfile::NamedTempFile::new_in(folder)
            && temporary.write_all(&bytes).is_ok()
        {
            let _ = temporary.persist(&file);
        }
    }

    fn file(&self, shard: &Path) -> Option<PathBuf> {
        let name = shard.file_name()?.to_string_lossy();
        match self {
            Self::None => None,
            Self::Beside => Some(shard.with_file_name(format!("{name}.index.json"))),
            Self::Directory(folder) => {
                let mut hasher = DefaultHasher::new();
                absolute(shard).hash(&mut hasher);
                Some(folder.join(format!("{name}-{:016x}.index.json", hasher.finish())))
            }
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Stamp {
        size: metadata.len(),
        changed_ns: changed.as_nanos(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_reused_until_the_shard_changes() {
        let folder = tempfile::tempdir().unwrap();
        let shard = folder.path().join("00000.tar");
        fs::write(&shard, [0; 1024]).unwrap();
        let member = Member {
            name: "a.jpg".into(),
            offset: 512,
            size: 3,
        };
        let contents = Contents {
            members: vec![member],
            damage: vec![],
        };
        for cache in [
            IndexCache::Beside,
            IndexCache::Directory(folder.path().join("cache")),
        ] {
            assert_eq!(cache.load(&shard), None);
            cache.store(&shard, &contents);
            assert_eq!(cache.load(&shard), Some(contents.clone()));
            fs::write(&shard, [0; 2048]).unwrap();
            assert_eq!(cache.load(&shard), None);
            fs::write(&shard, [0; 1024]).unwrap();
        }
    }

    #[test]
    fn an_index_that_points_outside_of_its_shard_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let shard = folder.path().join("00000.tar");
        fs::write(&shard, [0; 1024]).unwrap();
        for (offset, size) in [(512, 513), (u64::MAX, 2)] {
            let name = "a.jpg".into();
            let contents = Contents {
                members: vec![Member { name, offset, size }],
                damage: vec![],
            };
            IndexCache::Beside.store(&shard, &contents);
            assert_eq!(IndexCache::Beside.load(&shard), None);
        }
    }

    #[test]
    fn a_broken_index_or_an_unwritable_folder_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let shard = folder.path().join("00000.tar");
        fs::write(&shard, [0; 1024]).unwrap();
        fs::write(folder.path().join("00000.tar.index.json"), "{").unwrap();
        assert_eq!(IndexCache::Beside.load(&shard), None);
        let nowhere = IndexCache::Directory(shard.join("inside-a-file"));
        nowhere.store(&shard, &Contents::default());
        assert_eq!(nowhere.load(&shard), None);
    }
}
