//! Reading with the path in the error, and writing so that a half-written file never carries the final name.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{EvalError, Result};

/// Text of a file; a byte order mark at its start is dropped.
pub fn read_text(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(EvalError::io(path))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}

/// A JSON file as `T`; a file of another schema is an error that says where it departs from `what`.
pub fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|e| EvalError::format(path, format!("not {what}: {e}")))
}

/// The non-empty lines of a JSON-lines file as `T`.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = read_text(path)?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|e| EvalError::format(path, format!("line {}: {e}", number + 1)))
        })
        .collect()
}

/// Writes a file whole or not at all, with the folders that it needs.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(EvalError::io(parent))?;
    }
    ::files::write(path, bytes).map_err(EvalError::io(path))
}

/// Entries of a directory, sorted by name.
pub fn sorted_entries(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(dir).map_err(EvalError::io(dir))?;
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()).map_err(EvalError::io(dir)))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
