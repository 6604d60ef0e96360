//! Files and directories of tensors → [`StateDict`].

use super::pickle;
use super::state_dict::{HostTensor, SharedBytes, StateDict, StoredType, require_floats};
use crate::error::{Error, Result};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Component, Path};
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
    require_floats(read_tensors(path)?, path)
}

/// One file, whatever it holds.
fn read_tensors(path: &Path) -> Result<StateDict> {
    let bytes = map(path)?;
    let head = (*bytes).as_ref();
    if looks_like_safetensors(head) {
        read_safetensors(path, bytes)
    } else if pickle::looks_like_pickle(head) {
        pickle::read(path, bytes)
    } else {
        Err(Error::format(
            path,
            "neither a safetensors file nor a PyTorch checkpoint",
        ))
    }
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
    // An index comes from elsewhere: it names files beside itself, and no index again.
    let beside = |name: &str| {
        let plain = |part| matches!(part, Component::Normal(_));
        Path::new(name).components().all(plain) && !name.ends_with(".json")
    };
    match weight_map.values().find(|name| !beside(name)) {
        Some(name) => Err(Error::format(
            index,
            format!("`{name}` is no file of tensors beside this index"),
        )),
        None => Ok(weight_map),
    }
}

fn read_shards(index: &Path) -> Result<StateDict> {
    let weight_map = read_shard_index(index)?;
    let folder = index.parent().unwrap_or(Path::new("."));
    let files: BTreeSet<&String> = weight_map.values().collect();
    let mut dict = StateDict::default();
    for file in files {
        for (name, tensor) in read_tensors(&folder.join(file))? {
            dict.insert(name, tensor);
        }
    }
    let dict = require_floats(dict, index)?;
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

/// Element type of weights that are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightType {
    /// Four bytes, exact.
    #[default]
    F32,
    /// Two bytes: 8 bits of precision, the range of f32.
    Bf16,
    /// Two bytes: 11 bits of precision; values beyond 65504 become infinite.
    F16,
}

impl WeightType {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
        }
    }

    fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        }
    }
}

/// Writes a safetensors file that appears whole or not at all. All values are f32.
///
/// # Errors
///
/// Names the file that could not be written.
pub fn write_safetensors(path: &Path, dict: &StateDict) -> Result<()> {
    write_safetensors_as(path, dict, WeightType::F32)
}

/// [`write_safetensors`] with values of another type, rounded to it. One tensor at a time is in memory, besides what
/// `dict` itself holds.
///
/// # Errors
///
/// Names the file that could not be written.
pub fn write_safetensors_as(path: &Path, dict: &StateDict, dtype: WeightType) -> Result<()> {
    write_tensors(path, dict, dtype, &BTreeMap::new())
}

/// [`write_safetensors`] with texts in the file's metadata.
///
/// # Errors
///
/// Names the file that could not be written, and one whose metadata no reader would take.
pub fn write_safetensors_with(
    path: &Path,
    dict: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    write_tensors(path, dict, WeightType::F32, metadata)
}

/// The longest header that readers of the format take.
const MAX_HEADER: usize = 100_000_000;

fn write_tensors(
    path: &Path,
    dict: &StateDict,
    dtype: WeightType,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let header = safetensors_header(dict, dtype, metadata);
    if header.len() > MAX_HEADER {
        return Err(Error::format(
            path,
            format!(
                "names and metadata have {} bytes, and the format allows {MAX_HEADER}; divide the content among several \
                 files",
                header.len()
            ),
        ));
    }
    let written = files::write_by(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut bytes = Vec::new();
        for (_, tensor) in dict.iter() {
            dtype.encode(&tensor.values(), &mut bytes);
            file.write_all(&bytes)?;
        }
        Ok(())
    });
    written.map_err(Error::io(path))
}

/// The JSON in front of the values, padded to a multiple of eight bytes. All tensors have one type, so the order of
/// their names is also the format's order by alignment.
fn safetensors_header(
    dict: &StateDict,
    dtype: WeightType,
    metadata: &BTreeMap<String, String>,
) -> String {
    let mut start = 0;
    // Readers in Python look for this mark of the layout.
    let mut texts = Map::from_iter([("format".to_string(), json!("pt"))]);
    texts.extend(
        metadata
            .iter()
            .map(|(key, text)| (key.clone(), json!(text))),
    );
    let mut header = Map::from_iter([("__metadata__".to_string(), Value::Object(texts))]);
    for (name, tensor) in dict.iter() {
        let end = start + tensor.len() * dtype.size();
        let entry =
            json!({"dtype": dtype.name(), "shape": tensor.shape(), "data_offsets": [start, end]});
        header.insert(name.to_string(), entry);
        start = end;
    }
    let mut header = Value::Object(header).to_string();
    let padded = header.len().next_multiple_of(8);
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    header
}

/// Writes a file whole or not at all, see [`files::write`].
///
/// # Errors
///
/// Names the file that could not be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write(path, bytes).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::super::state_dict::HostTensor;
    use super::*;

    fn dict() -> StateDict {
        let tensor =
            |values: &[f32], shape: &[usize]| HostTensor::from_values(values.to_vec(), shape);
        [
            ("visual.proj", tensor(&[1.0, -0.1, 3.5, 1e5], &[2, 2])),
            ("logit_scale", tensor(&[2.6592], &[])),
            ("a \"quoted\" näme", tensor(&[0.1, 0.2, 0.3], &[3])),
        ]
        .map(|(name, tensor)| (name.to_string(), tensor))
        .into_iter()
        .collect()
    }

    #[test]
    fn a_written_file_has_the_bytes_that_the_formats_own_library_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write_safetensors(&path, &dict()).unwrap();
        let owned: Vec<(String, Vec<usize>, Vec<u8>)> = dict()
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
        let views = owned.iter().map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name.as_str(), view.unwrap())
        });
        let metadata = Some([("format".to_string(), "pt".to_string())].into());
        let expected = safetensors::serialize(views, metadata).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn metadata_is_read_back_and_too_much_of_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let metadata = |text: String| BTreeMap::from([("names".to_string(), text)]);
        write_safetensors_with(&path, &dict(), &metadata(r#"["ä \"b\""]"#.into())).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let texts = header.metadata().clone().unwrap();
        assert_eq!(texts["names"], r#"["ä \"b\""]"#);
        assert_eq!(texts["format"], "pt");
        assert_eq!(read_state_dict(&path).unwrap().len(), 3);
        let refused = write_safetensors_with(&path, &dict(), &metadata("x".repeat(MAX_HEADER)));
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("several files"), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn narrow_weights_are_rounded_to_nearest_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        for (dtype, expected) in [
            (WeightType::Bf16, [1.0, -0.100_097_656, 3.5, 99_840.0]),
            (WeightType::F16, [1.0, -0.099_975_586, 3.5, f32::INFINITY]),
        ] {
            let path = folder.path().join(dtype.name());
            write_safetensors_as(&path, &dict(), dtype).unwrap();
            let read = read_state_dict(&path).unwrap();
            assert_eq!(read.get("visual.proj").unwrap().values(), expected);
            assert_eq!(read.len(), 3);
        }
    }

    #[test]
    fn no_more_than_one_tensor_is_held_while_a_file_is_written() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static READS: AtomicUsize = AtomicUsize::new(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let partial = folder.path().join("w.safetensors.partial");
        let dict: StateDict = (0..4)
            .map(|i| {
                let partial = partial.clone();
                let read = move || {
                    // What was read before is in the file by now.
                    let written = std::fs::metadata(&partial).unwrap().len() as usize;
                    assert!(written >= 4 * 1000 * i, "{written} bytes before tensor {i}");
                    READS.fetch_add(1, Ordering::Relaxed);
                    vec![i as f32; 1000]
                };
                (i.to_string(), HostTensor::deferred([1000], read))
            })
            .collect();
        write_safetensors(&path, &dict).unwrap();
        assert_eq!(READS.load(Ordering::Relaxed), 4);
    }
}
