//! A folder takes the place of another, and at no time is there neither: whoever is killed leaves one of the two.

use std::ffi::OsString;
use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

/// Moves `new` to `target`. What stood there is moved aside first and removed when the new one is in its place.
///
/// # Errors
///
/// When a folder cannot be moved; what stood at `target` is then back there.
pub fn replace(new: &Path, target: &Path) -> Result<()> {
    recover(target)?;
    let old = aside(target);
    let stood = target.exists();
    if stood {
        fs::rename(target, &old)?;
    }
    if let Err(error) = fs::rename(new, target) {
        if stood {
            let _ = fs::rename(&old, target);
        }
        return Err(error);
    }
    if stood {
        let _ = fs::remove_dir_all(&old); // else the next one does it
    }
    Ok(())
}

/// Puts back what a process that was killed in [`replace`] had moved aside, or removes it if the new one had arrived.
///
/// # Errors
///
/// When the folder cannot be moved or removed.
pub fn recover(target: &Path) -> Result<()> {
    let old = aside(target);
    if !old.exists() {
        return Ok(());
    }
    match target.exists() {
        true => fs::remove_dir_all(&old),
        false => fs::rename(&old, target),
    }
}

/// What [`aside`] writes around a name.
const BEFORE: &str = ".";
const AFTER: &str = ".old";

/// Where the old `target` waits.
fn aside(target: &Path) -> PathBuf {
    let mut name = OsString::from(BEFORE);
    name.push(target.file_name().unwrap_or_default());
    name.push(AFTER);
    target.with_file_name(name)
}

/// The target whose old folder this is.
pub fn of_aside(old: &Path) -> Option<PathBuf> {
    let name = old.file_name()?.to_str()?;
    let name = name.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
    Some(old.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &Path, content: &str) {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), content).unwrap();
    }

    fn content(path: &Path) -> String {
        fs::read_to_string(path.join("file")).unwrap()
    }

    #[test]
    fn the_new_takes_the_place_of_the_old() {
        let root = tempfile::tempdir().unwrap();
        let (new, target) = (root.path().join("new"), root.path().join("model"));
        for text in ["first", "second"] {
            folder(&new, text);
            replace(&new, &target).unwrap();
            assert_eq!(content(&target), text);
            assert_eq!(root.path().read_dir().unwrap().count(), 1);
        }
        // What cannot be moved leaves the old one where it was.
        assert!(replace(&new, &target).is_err());
        assert_eq!(content(&target), "second");
    }

    #[test]
    fn whatever_a_kill_leaves_one_of_the_two_is_there_again() {
        let root = tempfile::tempdir().unwrap();
        let (new, target) = (root.path().join("new"), root.path().join("model"));
        let old = aside(&target);
        assert_eq!(of_aside(&old), Some(target.clone()));
        // Killed before the new one was in its place.
        folder(&old, "old");
        recover(&target).unwrap();
        assert_eq!(content(&target), "old");
        // Killed before the old one was removed.
        folder(&old, "older");
        recover(&target).unwrap();
        assert_eq!(content(&target), "old");
        assert!(!old.exists());
        // The next one comes before anybody has recovered.
        fs::rename(&target, &old).unwrap();
        folder(&new, "new");
        replace(&new, &target).unwrap();
        assert_eq!(content(&target), "new");
        assert!(!old.exists());
    }
}
