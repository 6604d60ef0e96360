//! Models of the Hugging Face hub.

use crate::error::{Error, Result};
use std::path::PathBuf;

/// The local directory of a hub model, downloaded into the cache if it is not there yet.
///
/// `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` are honoured as in Python.
#[cfg(not(feature = "hub"))]
pub(crate) fn download(name: &str) -> Result<PathBuf> {
    Err(Error::NotFound(format!(
        "hf-hub:{name}: this build cannot reach the hub; build with `--features hub`"
    )))
}
