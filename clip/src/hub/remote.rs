//! Downloads through hf-hub.

use super::cache::ModelCache;
use super::files::{HUGGING_FACE_CONFIG, gather};
use super::name::{ModelName, is_commit};
use crate::checkpoint::CONFIG;
use crate::checkpoint::{PREPROCESSOR, PROCESSOR};
use hf_hub::Cache;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Why a model could not be downloaded.
pub(super) struct Failure {
    pub problem: String,
    /// The hub said nothing of the model: what is cached may still be right.
    pub hub_is_down: bool,
}

impl From<String> for Failure {
    fn from(problem: String) -> Self {
        Self {
            problem,
            hub_is_down: false,
        }
    }
}

/// What the hub says of a revision, with the sizes that hf-hub's own type leaves out.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<RemoteFile>,
}

#[derive(Deserialize)]
struct RemoteFile {
    rfilename: String,
    /// In bytes; a mirror may not tell.
    size: Option<u64>,
}

/// Brings the newest commit of the revision into the cache, and gives its directory.
///
/// All files are of the one commit that the listing names, even if the branch moves meanwhile, and the revision
/// points to it only when it is whole.
pub(super) fn download(model: &ModelName, cache: &ModelCache) -> Result<PathBuf, Failure> {
    let endpoint = endpoint();
    let fail = |error, subject: &str| explain(error, subject, model, &endpoint);
    let builder = ApiBuilder::from_env()
        .with_cache_dir(cache.path().to_path_buf())
        .with_endpoint(endpoint.clone())
        .with_token(token());
    let api = builder.build().map_err(|error| fail(error, "the client"))?;

    let listing =
        list(&api.repo(model.repo())).map_err(|error| fail(error, "the list of files"))?;
    if !is_commit(&listing.sha) {
        return Err(format!(
            "{endpoint} names `{}` as its commit, which is none",
            listing.sha
        )
        .into());
    }
    let sizes: BTreeMap<String, Option<u64>> = listing
        .siblings
        .into_iter()
        .map(|file| (file.rfilename, file.size))
        .collect();
    let names = sizes.keys().cloned().collect();

    let commit = listing.sha;
    let snapshot = cache.snapshot(&commit);
    let repo = api.repo(model.repo_at(&commit));
    gather(&names, |name| {
        let path = snapshot.join(name);
        let size = sizes.get(name).copied().flatten();
        if path.is_file() && has_size(&path, size) {
            return Ok(path);
        }
        discard(&path);
        let got = repo.download(name).map_err(|error| fail(error, name))?;
        if !has_size(&got, size) {
            // An answer that does not tell its length may end early unnoticed.
            discard(&got);
            return Err(
                format!("{name} came incomplete from {endpoint}; load the model again").into(),
            );
        }
        match got == path {
            true => Ok(path),
            false => Err(Failure::from(format!(
                "{endpoint} gave {name} of another commit than {commit}"
            ))),
        }
    })?;

    let remember = || {
        let blind = names.contains(HUGGING_FACE_CONFIG) && !names.contains(CONFIG);
        if blind && !names.contains(PREPROCESSOR) && !names.contains(PROCESSOR) {
            cache.mark_absent(&commit, PREPROCESSOR)?;
        }
        cache.point_to(&commit)
    };
    remember().map_err(|error| format!("cannot write to {}: {error}", cache.path().display()))?;
    Ok(snapshot)
}

fn list(repo: &ApiRepo) -> Result<Listing, ApiError> {
    let response = repo
        .info_request()
        .query("blobs", "true")
        .call()
        .map_err(Box::new)?;
    Ok(response.into_json()?)
}

fn has_size(path: &Path, size: Option<u64>) -> bool {
    size.is_none_or(|size| fs::metadata(path).is_ok_and(|file| file.len() == size))
}

/// Removes a file of a snapshot and the blob behind it. What cannot be removed shows as the error of the download.
fn discard(path: &Path) {
    if let Ok(blob) = fs::canonicalize(path) {
        let _ = fs::remove_file(blob);
    }
    let _ = fs::remove_file(path);
}

fn endpoint() -> String {
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_default();
    match endpoint.trim_end_matches('/') {
        "" => "https://huggingface.co".to_string(),
        endpoint => endpoint.to_string(),
    }
}

/// hf-hub reads the file that a login leaves, but not the variable.
fn token() -> Option<String> {
    let variable = std::env::var("HF_TOKEN").unwrap_or_default();
    match variable.trim() {
        "" => Cache::from_env().token(),
        token => Some(token.to_string()),
    }
}

fn explain(error: ApiError, subject: &str, model: &ModelName, endpoint: &str) -> Failure {
    let (id, revision) = (model.id(), model.revision());
    let text = error.to_string();
    match error {
        ApiError::RequestError(error) => match error.into_response() {
            None => Failure {
                problem: format!("cannot reach {endpoint} for {subject} ({text}); check the network and HF_ENDPOINT"),
                hub_is_down: true,
            },
            Some(answer) => {
                let reason = answer.header("x-error-code").unwrap_or_default();
                match (answer.status(), reason) {
                    (404, "RevisionNotFound") => format!("{endpoint}/{id} has no revision `{revision}`"),
                    // The hub answers 401 for what does not exist as for what is private.
                    (401 | 403 | 404, _) => format!(
                        "{endpoint} has no {subject} of {id} at `{revision}`, or does not show it \
                         (status {}); check the name, and for a private or gated model set HF_TOKEN",
                        answer.status()
                    ),
                    (416, _) => return stale_part(subject),
                    (status @ 500.., _) => {
                        return Failure {
                            problem: format!("{endpoint} is out of order (status {status} for {subject}); try later"),
                            hub_is_down: true,
                        };
                    }
                    (status, _) => format!("{endpoint} refused {subject} (status {status}); try later"),
                }
                .into()
            }
        },
        ApiError::InvalidResume => stale_part(subject),
        ApiError::LockAcquisition(path) => format!(
            "another process is downloading {subject}; wait until it is done ({})",
            path.display()
        )
        .into(),
        ApiError::IoError(_) => format!(
            "{subject} could not be downloaded whole ({text}); nothing unfinished is used, load the model again \
             to go on"
        )
        .into(),
        _ => format!("{endpoint} gave an answer for {subject} that is not the hub's: {text}").into(),
    }
}

/// hf-hub cannot go on from a part that is as long as the file or longer.
fn stale_part(subject: &str) -> Failure {
    format!(
        "an earlier download of {subject} left a part that does not fit; \
         remove blobs/*.part of the model in the cache"
    )
    .into()
}
