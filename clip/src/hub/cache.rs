//! What the cache has of a model.
//!
//! hf-hub finds a cached file by the name of a branch only, has no offline mode and does not know whether a model is
//! whole. So its cache directory is read here, in the layout of `huggingface_hub`:
//!
//! ```text
//! models--ORG--NAME/refs/REVISION             the commit of a branch or tag
//! models--ORG--NAME/snapshots/COMMIT/FILE     link to a blob, made when the blob is whole
//! models--ORG--NAME/.no_exist/COMMIT/FILE     empty: the commit is known not to have the file
//! ```

use super::files::{HUGGING_FACE_CONFIG, gather};
use super::name::{ModelName, is_commit};
use crate::checkpoint::CONFIG;
use crate::checkpoint::{PREPROCESSOR, PROCESSOR};
use hf_hub::{Cache, CacheRepo};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The part of the cache that belongs to one model.
pub(super) struct ModelCache {
    cache: Cache,
    folder: PathBuf,
    revision: String,
    refs: CacheRepo,
}

impl ModelCache {
    pub fn new(model: &ModelName) -> Self {
        // hf-hub does not read HF_HUB_CACHE, without which Python's cache could be another one.
        let cache = match std::env::var_os("HF_HUB_CACHE") {
            Some(path) if !path.is_empty() => Cache::new(path.into()),
            _ => Cache::from_env(),
        };
        let repo = model.repo();
        let folder = cache.path().join(repo.folder_name());
        let refs = cache.repo(repo);
        Self {
            cache,
            folder,
            revision: model.revision().to_string(),
            refs,
        }
    }

    pub fn path(&self) -> &Path {
        self.cache.path()
    }

    /// The directory of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The directory of the revision's commit, if all that loading needs is in it; else what is not.
    pub fn complete(&self) -> Result<PathBuf, String> {
        let commit = self.commit().ok_or_else(|| {
            format!(
                "revision `{}` is not in the cache {}",
                self.revision,
                self.path().display()
            )
        })?;
        let snapshot = self.snapshot(&commit);
        let names: BTreeSet<String> = fs::read_dir(&snapshot)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_file()) // a link to a blob that is gone is no file
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let not_cached =
            |problem: String| format!("in the cache {}: {problem}", snapshot.display());
        // Without it the images would silently be prepared by defaults.
        let blind = names.contains(HUGGING_FACE_CONFIG)
            && !names.contains(CONFIG)
            && !names.contains(PREPROCESSOR)
            && !names.contains(PROCESSOR)
            && !self.absence(&commit, PREPROCESSOR).exists();
        if blind {
            return Err(not_cached(format!("{PREPROCESSOR} is missing")));
        }
        gather(&names, |name| match snapshot.join(name) {
            path if path.is_file() => Ok(path),
            _ => Err(format!("{name} is missing")),
        })
        .map_err(not_cached)?;
        Ok(snapshot)
    }

    /// Lets the revision mean `commit` from now on.
    pub fn point_to(&self, commit: &str) -> std::io::Result<()> {
        // As in Python, a commit needs no reference to itself.
        if self.revision == commit {
            Ok(())
        } else {
            self.refs.create_ref(commit)
        }
    }

    /// Remembers that the commit does not have the file.
    pub fn mark_absent(&self, commit: &str, name: &str) -> std::io::Result<()> {
        let path = self.absence(commit, name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, "")
    }

    fn absence(&self, commit: &str, name: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(name)
    }

    fn commit(&self) -> Option<String> {
        if is_commit(&self.revision) {
            return self
                .snapshot(&self.revision)
                .is_dir()
                .then(|| self.revision.clone());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(&self.revision)).ok()?;
        Some(commit.trim().to_string()).filter(|commit| is_commit(commit))
    }
}
