//! Files and directories of tensors → [`StateDict`].

use super::pickle;
use super::state_dict::{HostTensor, SharedBytes, StateDict, StoredType, require_floats};
use crate::error::{Error, Result};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Reads a safetensors file, a sharded set by its `*.index.json`, or a PyTorch pickle. The content decides which.
///
/// # Errors
///
/// Names the file and what is wrong with it.
pub fn read_state_dict(path: &Path) -> Result<StateDict> {
    if path.to_string_lossy().ends_with(".index.json") {
        return read_shards(path);
    }
    let bytes = map(path)?;
    let head = (*bytes).as_ref();
    let dict = if looks_like_safetensors(head) {
        read_safetensors(path, bytes)?
    } else if pickle::looks_like_pickle(head) {
        pickle::read(path, bytes)?
    } else {
        return Err(Error::format(
            path,
            "neither a safetensors file nor a PyTorch checkpoint",
        ));
    };
    require_floats(dict, path)
}

pub(super) fn map(path: &Path) -> Result<SharedBytes> {
    let file = File::open(path).map_err(Error::io(path))?;
    if file.metadata().map_err(Error::io(path))?.len() == 0 {
        return Err(Error::format(path, "the file is empty"));
    }
    // SAFETY: the map is read-only; as with every mapped weight file, nobody may shrink it while it is in use.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    Ok(Arc::new(map))
}

/// Eight bytes of header length, then JSON.
fn looks_like_safetensors(head: &[u8]) -> bool {
    head.get(8) == Some(&b'{')
}

fn read_safetensors(path: &Path, bytes: SharedBytes) -> Result<StateDict> {
    let broken =
        |problem: String| Error::format(path, format!("broken safetensors file: {problem}"));
    let content = (*bytes).as_ref();
    let (header, metadata) =
        SafeTensors::read_metadata(content).map_err(|error| broken(error.to_string()))?;
    let start = header + 8;
    if content.len() < start + metadata.data_len() {
        return Err(broken(format!(
            "{} bytes of {} are missing; copy it again",
            start + metadata.data_len() - content.len(),
            start + metadata.data_len()
        )));
    }
    let mut dict = StateDict::default();
    for (name, info) in metadata.tensors() {
        let dtype = match info.dtype {
            Dtype::F64 => StoredType::F64,
            Dtype::F32 => StoredType::F32,
            Dtype::F16 => StoredType::F16,
            Dtype::BF16 => StoredType::Bf16,
            Dtype::I64 => StoredType::I64,
            Dtype::I32 => StoredType::I32,
            Dtype::I16 => StoredType::I16,
            Dtype::I8 => StoredType::I8,
            Dtype::U8 => StoredType::U8,
            Dtype::BOOL => StoredType::Bool,
            other => {
                return Err(broken(format!(
                    "tensor `{name}` has type {other:?}, which is not supported"
                )));
            }
        };
        let offset = start + info.data_offsets.0;
        let tensor = HostTensor::stored(bytes.clone(), dtype, offset, info.shape.clone(), None)
            .ok_or_else(|| broken(format!("tensor `{name}` reaches past the end")))?;
        dict.insert(name, tensor);
    }
    Ok(dict)
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// Which shard has each tensor.
pub(crate) fn read_shard_index(index: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(index).map_err(Error::io(index))?;
    let ShardIndex { weight_map } = serde_json::from_str(&text)
        .map_err(|error| Error::format(index, format!("not an index of shards: {error}")))?;
    Ok(weight_map)
}

fn read_shards(index: &Path) -> Result<StateDict> {
    let weight_map = read_shard_index(index)?;
    let folder = index.parent().unwrap_or(Path::new("."));
    let files: BTreeSet<&String> = weight_map.values().collect();
    let mut dict = StateDict::default();
    for file in files {
        for (name, tensor) in read_state_dict(&folder.join(file))? {
            dict.insert(name, tensor);
        }
    }
    let missing: Vec<_> = weight_map
        .keys()
        .filter(|name| dict.get(name).is_none())
        .collect();
    if let Some(name) = missing.first() {
        return Err(Error::format(
            index,
            format!(
                "{} tensors are in no shard, the first is `{name}`",
                missing.len()
            ),
        ));
    }
    Ok(dict)
}

/// Writes a safetensors file that appears whole or not at all. All values are f32.
///
/// # Errors
///
/// Names the file that could not be written.
pub fn write_safetensors(path: &Path, dict: &StateDict) -> Result<()> {
    let values: Vec<(String, Vec<usize>, Vec<u8>)> = dict
        .iter()
        .map(|(name, tensor)| {
            let bytes = tensor
                .values()
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect();
            (name.to_string(), tensor.shape().to_vec(), bytes)
        })
        .collect();
    let views = values.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes);
        (
            name.as_str(),
            view.expect("the bytes are those of the shape"),
        )
    });
    // Readers in Python look for this mark of the layout.
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    let bytes = safetensors::serialize(views, metadata)
        .map_err(|error| Error::format(path, error.to_string()))?;
    write_whole(path, &bytes)
}

/// Writes beside the target, syncs, then renames, so that no reader ever sees half a file.
///
/// # Errors
///
/// Names the file that could not be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let write = || {
        let mut file = File::create(partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(partial, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(partial);
        Error::Io {
            path: path.into(),
            source,
        }
    })
}
