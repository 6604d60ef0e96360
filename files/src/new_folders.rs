//! Folders for files that may never be written.

use std::fs;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Folders that were made here, outer ones first. Dropped before [`keep`](Self::keep), those that are still empty go again, so
/// that work which is refused leaves none.
#[derive(Debug, Default)]
pub struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    /// Makes a folder and those that it lies in. One that is there already stays whatever comes.
    ///
    /// # Errors
    ///
    /// When one cannot be made.
    pub fn make(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(outer) = path.parent().filter(|outer| !outer.as_os_str().is_empty()) {
            self.make(outer)?;
        }
        match fs::create_dir(path) {
            Ok(()) => self.0.push(path.into()),
            // Another process was faster, and it is that one's.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Leaves all of them where they are.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            let _ = fs::remove_dir(folder); // fails where something lies in it
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_goes_again_unless_it_is_kept_or_was_there() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("old")).unwrap();
        let make = || {
            let mut folders = NewFolders::default();
            for name in ["old", "a/b/c", "a/d", "old/e"] {
                folders.make(&path(name)).unwrap();
            }
            assert!(path("a/b/c").is_dir() && path("a/d").is_dir());
            folders
        };
        drop(make());
        assert!(path("old").is_dir() && !path("a").exists() && !path("old/e").exists());
        let folders = make();
        fs::write(path("a/d/file"), "").unwrap();
        drop(folders);
        assert!(path("a/d/file").exists() && !path("a/b").exists());
        make().keep();
        assert!(path("a/b/c").is_dir() && path("old/e").is_dir());
        fs::write(path("file"), "").unwrap();
        assert!(NewFolders::default().make(&path("file/f")).is_err());
    }
}
