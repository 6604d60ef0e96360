//! The folder of one checkpoint: written under a hidden name, then renamed.

use super::names::{EMA, EXPORTED, MODEL, OPTIMIZER, STATE, WEIGHTS};
use super::saved::{Saved, StoredAs};
use super::{manifest, tensors};
use crate::error::{Result, TrainError};
use crate::trainer::task::Trained;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Writes all files of a checkpoint and waits until they are on the disk.
pub(super) fn write(dir: &Path, saved: &Saved, model: &dyn Trained, recipe: &str) -> Result<()> {
    let exported = dir.join(MODEL);
    fs::create_dir_all(&exported).map_err(TrainError::io(&exported))?;
    model
        .write_into(&exported)
        .map_err(|source| TrainError::Task {
            what: "exporting the model",
            source,
        })?;
    check_exported(&exported, &saved.exported)?;
    if fs::read_dir(&exported).is_ok_and(|mut files| files.next().is_none()) {
        let _ = fs::remove_dir(&exported);
    }
    if !saved.weights.is_empty() || saved.exported.is_empty() {
        tensors::write(&dir.join(WEIGHTS), &saved.weights)?;
    }
    tensors::write(&dir.join(OPTIMIZER), &saved.optimizer)?;
    if let Some(ema) = &saved.ema {
        tensors::write(&dir.join(EMA), ema)?;
    }
    let json = |text: serde_json::Result<String>| text.expect("plain data serialises");
    let state = json(serde_json::to_string_pretty(&saved.state));
    let mut texts = vec![(STATE, state), ("recipe.toml", recipe.to_string())];
    if !saved.exported.is_empty() {
        texts.push((
            EXPORTED,
            json(serde_json::to_string_pretty(&saved.exported)),
        ));
    }
    for (name, text) in texts {
        let path = dir.join(name);
        fs::write(&path, text).map_err(TrainError::io(&path))?;
    }
    manifest::write(dir)?;
    sync_all(dir)
}

/// Whether the exported model really holds the parameters that are left out of the checkpoint's own file.
fn check_exported(model: &Path, exported: &BTreeMap<String, StoredAs>) -> Result<()> {
    let mut headers = BTreeMap::new();
    for stored in exported.values() {
        let file = model.join(&stored.file);
        if !headers.contains_key(&stored.file) {
            headers.insert(stored.file.clone(), tensors::lengths_in_f32(&file)?);
        }
        let found = headers[&stored.file].get(&stored.tensor);
        if found != Some(&stored.shape.iter().product()) {
            let what = format!("`{}` was not exported in full", stored.tensor);
            return Err(TrainError::checkpoint(&file, what));
        }
    }
    Ok(())
}

/// Waits until a folder and all in it are on the disk.
fn sync_all(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(TrainError::io(dir))? {
        let path = entry.map_err(TrainError::io(dir))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            sync(&path)?;
        }
    }
    sync(dir)
}

fn sync(path: &Path) -> Result<()> {
    fs::File::open(path)
        .and_then(|f| f.sync_all())
        .map_err(TrainError::io(path))
}

/// Moves `new` to `target`. A step is saved once: what stands there already is of the same step and weights, or damaged.
pub(super) fn rename(new: &Path, target: &Path) -> Result<()> {
    files::replace(new, target).map_err(TrainError::io(target))?;
    target.parent().map_or(Ok(()), sync)
}
