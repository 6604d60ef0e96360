//! Files and folders that appear whole or not at all: whoever is killed, or finds the disk full, leaves the old one or the
//! new one, never a half. And shares of work, which several processes write into files of their own ([`Shard`]).
//!
//! Errors are the system's; whoever calls names the path.

mod new_folders;
mod replace;
mod shard;
mod unfinished;

pub use new_folders::NewFolders;
pub use replace::{of_aside, recover, replace};
pub use shard::Shard;
pub use unfinished::Unfinished;

use std::fs::File;
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};

/// Writes a file: under another name beside it at first, synced, then renamed.
///
/// # Errors
///
/// When the disk refuses; what stood at `path` is then as it was, and nothing lies beside it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_by(path, |file| file.write_all(bytes))
}

/// [`write()`] for what is not in memory as a whole.
///
/// # Errors
///
/// As there, and those of `content`.
pub fn write_by(path: &Path, content: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let mut file = Unfinished::create(path)?;
    content(file.file())?;
    file.finish()
}

/// The name under which a file or a folder is written at first: the target's with `.partial` behind it.
pub fn partial(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Longest file that is read as an image; uncompressed, 128 million pixels in 16-bit colour have less.
pub const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// The bytes of an image file; of one that is longer than [`MAX_IMAGE_BYTES`] only the length, it is not read.
///
/// # Errors
///
/// When the file cannot be read, or is none: annotations come from anyone, and devices and pipes have no end.
pub fn read_image(path: &Path) -> Result<std::result::Result<Vec<u8>, u64>> {
    let bytes = regular(path)?;
    match bytes > MAX_IMAGE_BYTES {
        true => Ok(Err(bytes)),
        false => std::fs::read(path).map(Ok),
    }
}

/// Length of a file.
///
/// # Errors
///
/// When there is none, or it is a folder, a device or a pipe.
pub fn regular(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path)?;
    match metadata.is_file() {
        true => Ok(metadata.len()),
        false => Err(Error::other("this is no file of bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_old_one_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"old").unwrap();
        let failing = write_by(&path, |file| {
            file.write_all(b"ne")?;
            assert_eq!(std::fs::read(&path).unwrap(), b"old");
            Err(std::io::Error::other("the disk is full"))
        });
        assert_eq!(failing.unwrap_err().to_string(), "the disk is full");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        assert!(write(&folder.path().join("no/such/folder"), b"").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_no_image_and_is_not_read_to_its_end() {
        let message = read_image(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(message.contains("no file"), "{message}");
        assert!(read_image(&std::env::temp_dir()).is_err());
    }
}
