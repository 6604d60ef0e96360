//! Tests of the workspace as a whole. They live in a crate of their own so that what they need is not built for the
//! examples.

use std::path::{Path, PathBuf};

/// A file made by the reference implementations, by its path below `tests/fixtures`.
pub fn fixture(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(path)
}
