//! The file of rewrites: whole lines are added at its end, a torn one is cut off when a run goes on.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// At least this often the lines are made sure to be on the disk.
const SYNC: Duration = Duration::from_secs(10);

/// Where an interrupted run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Lines to keep.
    pub lines: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

/// Finds the last line of a whole batch, so that the batches after it are those of an uninterrupted run.
///
/// A file with all `total` lines is kept whole.
pub fn find_place(path: &Path, batch: u64, total: u64) -> Result<Place> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::io(path))?);
    let mut raw = Vec::new();
    let (mut at, mut place) = (Place { lines: 0, bytes: 0 }, Place { lines: 0, bytes: 0 });
    loop {
        raw.clear();
        let read = reader
            .read_until(b'\n', &mut raw)
            .map_err(Error::io(path))?;
        if raw.last() != Some(&b'\n') {
            // The end, or a torn line before it.
            if at.lines > total || (at.lines == total && read > 0) {
                return Err(Error::format(
                    path,
                    format!("more lines than the {total} of the input; something else wrote to it"),
                ));
            }
            return Ok(place);
        }
        at.lines += 1;
        at.bytes += read as u64;
        if at.lines.is_multiple_of(batch) || at.lines == total {
            place = at;
        }
    }
}

/// The open file.
pub struct Output {
    file: File,
    path: PathBuf,
    synced: Instant,
}

impl Output {
    /// A new file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        Self::locked(file.map_err(Error::io(path))?, path)
    }

    /// Goes on after `place`; what follows it in the file is cut off.
    pub fn resume(path: &Path, place: Place) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(Error::io(path))?;
        let mut output = Self::locked(file, path)?;
        output.file.set_len(place.bytes).map_err(Error::io(path))?;
        output
            .file
            .seek(SeekFrom::End(0))
            .map_err(Error::io(path))?;
        Ok(output)
    }

    fn locked(file: File, path: &Path) -> Result<Self> {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::format(path, "another run is writing to it"));
            }
            // A file system without locks is no reason not to write.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        Ok(Self {
            file,
            path: path.into(),
            synced: Instant::now(),
        })
    }

    /// Adds lines, which have no line breaks of their own.
    pub fn append(&mut self, lines: &[String]) -> Result<()> {
        let mut text = lines.join("\n");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(Error::io(&self.path))?;
        if self.synced.elapsed() > SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes sure that all lines are on the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_after_the_last_whole_batch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        let place = |content: &str, batch, total| {
            std::fs::write(&path, content).unwrap();
            find_place(&path, batch, total).map(|place| (place.lines, place.bytes))
        };
        assert_eq!(place("", 2, 9).unwrap(), (0, 0));
        assert_eq!(place("a", 1, 9).unwrap(), (0, 0));
        assert_eq!(place("a\nb\nc\nto", 1, 9).unwrap(), (3, 6));
        assert_eq!(place("a\nb\nc\nto", 2, 9).unwrap(), (2, 4));
        assert_eq!(place("a\n\n\n", 2, 3).unwrap(), (3, 4), "all is there");
        assert!(place("a\nb\nc\n", 2, 2).is_err());
        assert!(place("a\nb\nc", 2, 2).is_err());

        std::fs::write(&path, "a\nb\nc\nto").unwrap();
        let mut output = Output::resume(&path, Place { lines: 2, bytes: 4 }).unwrap();
        assert!(
            Output::resume(&path, Place { lines: 2, bytes: 4 }).is_err(),
            "locked"
        );
        output.append(&["x".into(), "".into()]).unwrap();
        output.sync().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\nx\n\n");
        assert!(Output::create(&path).is_err());
    }
}
