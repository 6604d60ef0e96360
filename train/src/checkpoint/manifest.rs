//! `manifest.json`: size and SHA-256 of every file of a checkpoint. It is written last, so a folder without
//! one is incomplete.

use crate::error::{Result, TrainError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Name of the file.
pub const MANIFEST: &str = "manifest.json";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    sha256: String,
}

/// Lists all files below `dir` in its manifest.
///
/// # Errors
///
/// When a file cannot be read or the manifest cannot be written.
pub fn write(dir: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(&entries(dir, dir)?).expect("plain data serialises");
    let path = dir.join(MANIFEST);
    std::fs::write(&path, text).map_err(TrainError::io(&path))
}

/// Checks every listed file.
///
/// # Errors
///
/// A sentence that names the first file that is missing or differs.
pub fn verify(dir: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(dir.join(MANIFEST))
        .map_err(|e| format!("{MANIFEST} cannot be read ({e}), so the checkpoint is incomplete"))?;
    let wanted: BTreeMap<String, Entry> =
        serde_json::from_str(&text).map_err(|e| format!("{MANIFEST} is damaged: {e}"))?;
    for (name, entry) in wanted {
        let path = dir.join(&name);
        // A manifest may name a device, which never ends.
        let found = files::regular(&path).and_then(|_| digest(&path));
        let found = found.map_err(|e| format!("{name}: {e}"))?;
        if found.bytes != entry.bytes {
            return Err(format!(
                "{name} has {} bytes instead of {}",
                found.bytes, entry.bytes
            ));
        }
        if found != entry {
            return Err(format!(
                "{name} was changed: its SHA-256 differs from the manifest's"
            ));
        }
    }
    Ok(())
}

fn entries(root: &Path, dir: &Path) -> Result<BTreeMap<String, Entry>> {
    let mut found = BTreeMap::new();
    for item in std::fs::read_dir(dir).map_err(TrainError::io(dir))? {
        let path = item.map_err(TrainError::io(dir))?.path();
        if path.is_dir() {
            found.extend(entries(root, &path)?);
        } else {
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            found.insert(name, digest(&path).map_err(TrainError::io(&path))?);
        }
    }
    Ok(found)
}

fn digest(path: &Path) -> std::io::Result<Entry> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            let sha256 = hash
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            return Ok(Entry { bytes, sha256 });
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
}
