//! A file under another name until it is whole.

use std::fs::{self, File};
use std::io::{Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::partial;

/// A file that is being written, for those who cannot write it in one call ([`write_by`](crate::write_by)). Dropped before
/// [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct Unfinished {
    file: File,
    path: PathBuf,
    finished: bool,
}

impl Unfinished {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: File::create(partial(path))?,
            path: path.into(),
            finished: false,
        })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was written so far, under its other name.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts the file in its place, synced.
    ///
    /// # Errors
    ///
    /// When the disk refuses; what stood there is then as it was.
    pub fn finish(mut self) -> Result<()> {
        self.file.sync_all()?;
        fs::rename(partial(&self.path), &self.path)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(partial(&self.path));
        }
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

impl Seek for Unfinished {
    fn seek(&mut self, place: SeekFrom) -> Result<u64> {
        self.file.seek(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_leaves_nothing_and_a_finished_one_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut file = Unfinished::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        let mut file = Unfinished::create(&path).unwrap();
        file.write_all(b"-hole").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"w").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
