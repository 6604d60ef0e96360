//! Tar shards and parquet files that are not files here: `pipe:COMMAND`, `https://..`, and compressed ones.
//!
//! They are fetched into a folder when a source is opened, and are files from then on. A stream would not do: the order of the
//! samples, going on in the middle of an epoch and sharing them out over processes need the number of samples of every shard,
//! and any of them at any time; the end of a stream tells neither before it has come. Several epochs then cost one download.

mod form;
#[cfg(feature = "http")]
mod http;
mod origin;
mod pipe;
mod store;
#[cfg(test)]
mod tests;
#[cfg(feature = "http")]
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

pub(crate) use self::form::Form;
use self::origin::Origin;
use crate::error::DataError;
use crate::webdataset::expand;

/// Where shards from elsewhere go, and how they are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// The folder that keeps them. Whoever names no shards from elsewhere needs none. A file in it is taken for what its
    /// address gives now: remove it to fetch that again.
    pub directory: Option<PathBuf>,
    /// Shards that are fetched at the same time.
    pub at_once: usize,
    /// Tries of a download in a row that bring less than a megabyte, after which it is given up.
    pub attempts: u32,
    /// Milliseconds before the second try; doubled with every further one, up to half a minute.
    pub pause_ms: u64,
    /// Seconds without a byte after which a connection is taken for broken. A command of `pipe:` has all the time it wants.
    pub timeout_s: u64,
    /// Megabytes, uncompressed, that a shard has at most.
    pub max_mb: u64,
}

impl Default for Fetch {
    fn default() -> Self {
        Self {
            directory: None,
            at_once: 4,
            attempts: 6,
            pause_ms: 1000,
            timeout_s: 60,
            max_mb: 65_536,
        }
    }
}

impl Fetch {
    /// The folder is named, all else is as usual.
    pub fn into_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: Some(directory.into()),
            ..Self::default()
        }
    }
}

/// The files of a pattern, in order, after those from elsewhere were fetched; relative names start from `root` if there is one.
///
/// # Errors
///
/// Names what cannot be fetched, and why; in a build without the feature `http`, every address.
pub(crate) fn local_shards(
    pattern: &str,
    root: Option<&Path>,
    fetch: &Fetch,
    form: Form,
) -> Result<Vec<PathBuf>, DataError> {
    let names = expand(pattern)?.into_iter();
    let origins: Vec<Origin> = names
        .map(|name| Origin::of(name, root))
        .collect::<Result<_, _>>()?;
    let remote = origins.iter().find(|origin| !origin.is_file());
    let Some(first) = remote else {
        let path = |origin| match origin {
            Origin::File(path) => path,
            _ => unreachable!("looked at above"),
        };
        return Ok(origins.into_iter().map(path).collect());
    };
    let Some(directory) = &fetch.directory else {
        return Err(first.fails(format!(
            "is no {form} file here, and there is no folder to fetch it into: name one (`fetch = {{ directory = \"DIR\" }}` in a \
             recipe, `--cache-dir DIR` of `embed`)",
        )));
    };
    fetch_all(&origins, fetch, directory, form)
}

/// Fetches some at a time. The first that fails keeps the others from being begun.
fn fetch_all(
    origins: &[Origin],
    fetch: &Fetch,
    directory: &Path,
    form: Form,
) -> Result<Vec<PathBuf>, DataError> {
    std::fs::create_dir_all(directory).map_err(|error| DataError::io(directory, error))?;
    let paths: Vec<Mutex<Option<PathBuf>>> = origins.iter().map(|_| Mutex::default()).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let take = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        origins.get(number).zip(paths.get(number))
    };
    let work = || {
        while let Some((origin, path)) = take() {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let fetched = store::fetch(origin, fetch, directory, form)
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            *path.lock().expect("nobody panics with it") = Some(fetched);
        }
        Ok::<(), DataError>(())
    };
    std::thread::scope(|scope| {
        let threads = fetch.at_once.clamp(1, origins.len());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ends = threads
            .into_iter()
            .map(|thread| thread.join().expect("fetching does not panic"));
        ends.collect::<Result<Vec<()>, DataError>>()
    })?;
    let path = |path: Mutex<Option<PathBuf>>| {
        let path = path.into_inner().expect("nobody panics with it");
        path.expect("nothing failed")
    };
    Ok(paths.into_iter().map(path).collect())
}
