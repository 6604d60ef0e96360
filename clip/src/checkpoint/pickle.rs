//! PyTorch checkpoints: zip archives, TorchScript archives and the older stream of pickles.
//!
//! The pickle machine builds plain data. It imports nothing and calls nothing: an object of an unknown class
//! becomes an opaque value, so a training checkpoint with optimizer state, `argparse` namespaces or numpy scalars
//! still gives its weights.

mod heap;
mod machine;
mod rations;
mod value;

use super::state_dict::{HostTensor, SharedBytes, StateDict, StoredType};
use crate::error::{Error, Result};
use machine::{Machine, Pickled};
use rations::Rations;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use value::Value;

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

pub(super) fn looks_like_pickle(head: &[u8]) -> bool {
    head.starts_with(ZIP_MAGIC)
        || (head.first() == Some(&0x80) && head.get(1).is_some_and(|v| *v <= 5))
}

pub(super) fn read(path: &Path, bytes: SharedBytes) -> Result<StateDict> {
    let broken = |problem: String| Error::format(path, problem);
    let (pickled, storages) = if (*bytes).as_ref().starts_with(ZIP_MAGIC) {
        read_zip(&bytes)
    } else {
        read_stream(&bytes)
    }
    .map_err(broken)?;
    let mut tensors = Vec::new();
    let mut visited = Visited::default();
    find_state_dict(&pickled.object, &mut tensors, 0, &mut visited).map_err(broken)?;
    let mut dict = StateDict::default();
    for (name, tensor) in tensors {
        let storage = storages
            .get(&*tensor.storage)
            .ok_or_else(|| broken(format!("the data of tensor `{name}` is missing")))?;
        let offset = tensor.offset.checked_mul(tensor.dtype.size());
        let view = offset.and_then(|offset| {
            HostTensor::stored(
                storage.clone(),
                tensor.dtype,
                offset,
                tensor.shape.clone(),
                Some(tensor.strides.clone()),
            )
        });
        dict.insert(
            name.clone(),
            view.ok_or_else(|| {
                broken(format!(
                    "tensor `{name}` reaches past the end of its data, or repeats it many times over; the file is cut \
                     short, or should be saved with .contiguous()"
                ))
            })?,
        );
    }
    Ok(dict)
}

/// The bytes of one storage within the file; a tensor cannot reach into those of another.
struct Storage {
    file: SharedBytes,
    range: Range<usize>,
}

impl Storage {
    fn shared(
        key: &str,
        file: &SharedBytes,
        start: usize,
        size: usize,
    ) -> std::result::Result<SharedBytes, String> {
        let end = start.checked_add(size);
        let end = end.filter(|end| *end <= (**file).as_ref().len());
        let range = start..end.ok_or(format!("the data of storage `{key}` is cut short"))?;
        Ok(Arc::new(Self {
            file: file.clone(),
            range,
        }))
    }
}

impl AsRef<[u8]> for Storage {
    fn as_ref(&self) -> &[u8] {
        &(*self.file).as_ref()[self.range.clone()]
    }
}

/// What is pickled, and the storages that its tensors name.
type Parsed = std::result::Result<(Pickled, HashMap<String, SharedBytes>), String>;

fn read_zip(bytes: &SharedBytes) -> Parsed {
    let broken =
        |error: zip::result::ZipError| format!("broken PyTorch archive: {error}; copy it again");
    let content = (**bytes).as_ref();
    let mut archive = zip::ZipArchive::new(Rations::new(content)).map_err(broken)?;
    let names: Vec<String> = archive.file_names().map(str::to_string).collect();
    // One of them, by its place: names that are no text are many and look alike.
    let pickle = names
        .iter()
        .position(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
        .ok_or("a zip file without data.pkl is not a PyTorch checkpoint")?;
    let root = names[pickle]
        .strip_suffix("data.pkl")
        .unwrap_or_default()
        .to_string();
    let mut storages = HashMap::new();
    let mut machine = None;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = entry.name().to_string();
        let start = entry.data_start().ok_or("a zip entry without data")? as usize;
        let size = entry.compressed_size() as usize;
        let Some(local) = name.strip_prefix(&root) else {
            continue;
        };
        let stored = entry.compression() == zip::CompressionMethod::Stored;
        if local == "byteorder" {
            if content.get(start..start.saturating_add(size)) == Some(b"big") {
                return Err("the checkpoint was written on a big-endian machine".into());
            }
        } else if index == pickle {
            if !stored {
                return Err(
                    "compressed archives are not PyTorch's own; save it again with torch.save"
                        .into(),
                );
            }
            let pickled = content
                .get(start..start.saturating_add(size))
                .ok_or("the archive is cut short")?;
            machine = Some(Machine::new(pickled).run()?);
        } else if let Some(key) = local.strip_prefix("data/") {
            if !stored {
                return Err(format!(
                    "storage `{key}` is compressed; save it again with torch.save"
                ));
            }
            let storage = Storage::shared(key, bytes, start, size)?;
            storages.insert(key.to_string(), storage);
        }
    }
    Ok((
        machine.ok_or("a zip file without data.pkl is not a PyTorch checkpoint")?,
        storages,
    ))
}

/// PyTorch before 1.6: magic number, protocol, system, object, list of storages, then their bytes.
fn read_stream(bytes: &SharedBytes) -> Parsed {
    let content = (**bytes).as_ref();
    let mut at = 0;
    let mut next = || -> std::result::Result<Pickled, String> {
        let pickled = Machine::new(content.get(at..).unwrap_or_default()).run()?;
        at += pickled.len;
        Ok(pickled)
    };
    let first = next()?;
    if !matches!(first.object, Value::Magic) {
        return Err(format!(
            "a pickle of {}, not a PyTorch checkpoint",
            first.object.describe()
        ));
    }
    next()?; // protocol
    next()?; // system
    let root = next()?;
    let keys = next()?;
    let Value::List(keys) = &keys.object else {
        return Err("the list of storages is missing".into());
    };
    let mut storages = HashMap::new();
    for key in keys.borrow().iter() {
        let Value::Str(key) = key else {
            return Err("a storage without a name".into());
        };
        let raw = content.get(at..at + 8).ok_or("the file is cut short")?;
        let count = u64::from_le_bytes(raw.try_into().expect("eight bytes")) as usize;
        let start = at + 8;
        let dtype = root.storages.get(&**key);
        let dtype = dtype.ok_or(format!("storage `{key}` has no known type"))?;
        let size = count.checked_mul(dtype.size());
        let size = size.ok_or("a storage is too large")?;
        let storage = Storage::shared(key, bytes, start, size)?;
        storages.insert(key.to_string(), storage);
        at = start + size;
    }
    Ok((root, storages))
}

/// Modules and dictionaries nest less deep than this.
const MAX_DEPTH: usize = 64;
/// Modules and tensors of a TorchScript archive, one that is shared counted for each name it has.
const MAX_MODULES: usize = 1 << 16;
/// Bytes of all names together, of tensors and of classes: a pickle may use one long text many times.
const MAX_NAMES: usize = 1 << 26;

/// Where a stored tensor lies.
#[derive(Debug, Clone)]
struct TensorRef {
    storage: Rc<str>,
    dtype: StoredType,
    /// In elements.
    offset: usize,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
}

/// Names under which trainers put the weights, in order of preference.
const WEIGHT_KEYS: [&str; 5] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "state_dict_ema",
];

fn find_state_dict(
    root: &Value,
    tensors: &mut Vec<(String, Rc<TensorRef>)>,
    depth: usize,
    visited: &mut Visited,
) -> std::result::Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("the checkpoint nests dictionaries too deep".into());
    }
    match root {
        Value::Dict(entries) => {
            let entries = entries.borrow();
            let holds_tensors = entries
                .iter()
                .any(|(_, value)| matches!(value, Value::Tensor(_)));
            if !holds_tensors {
                for wanted in WEIGHT_KEYS {
                    let found = entries.iter().find(|(key, _)| key.as_str() == Some(wanted));
                    if let Some((_, inner)) = found {
                        return find_state_dict(inner, tensors, depth + 1, visited);
                    }
                }
            }
            for (key, value) in entries.iter() {
                match (key.as_str(), value) {
                    (Some(name), Value::Tensor(tensor)) => {
                        visited.name(name)?;
                        tensors.push((name.to_string(), tensor.clone()));
                    }
                    (Some(name), Value::Object(object)) if holds_tensors => {
                        return Err(format!(
                            "`{name}` is a Python object of class {}, not a tensor",
                            object.class
                        ));
                    }
                    _ => {}
                }
            }
            if tensors.is_empty() {
                let keys: Vec<_> = entries
                    .iter()
                    .filter_map(|(key, _)| key.as_str())
                    .take(8)
                    .collect();
                return Err(format!(
                    "no weights found: the checkpoint holds {}; expected a state dict, or one under {}",
                    if keys.is_empty() {
                        "nothing".into()
                    } else {
                        keys.join(", ")
                    },
                    WEIGHT_KEYS.join(", ")
                ));
            }
            Ok(())
        }
        // A TorchScript archive, as OpenAI released: attributes of nested modules.
        Value::Object(object) if object.class.starts_with("__torch__.") => {
            collect_attributes(root, "", tensors, 0, visited)
        }
        Value::Object(object) => Err(format!(
            "the file holds a Python object of class {}, not a state dict; \
             in Python, save model.state_dict() and load that",
            object.class
        )),
        other => Err(format!(
            "the file holds {}, not a state dict",
            other.describe()
        )),
    }
}

/// What has been seen of a checkpoint.
#[derive(Default)]
struct Visited {
    parts: usize,
    names: usize,
}

impl Visited {
    fn add(&mut self, name: &str, depth: usize) -> std::result::Result<(), String> {
        self.parts += 1;
        self.name(name)?;
        match depth > MAX_DEPTH || self.parts > MAX_MODULES {
            true => Err("the TorchScript archive nests or shares modules beyond any model".into()),
            false => Ok(()),
        }
    }

    fn name(&mut self, name: &str) -> std::result::Result<(), String> {
        self.names += name.len();
        match self.names > MAX_NAMES {
            true => Err(format!(
                "the names of its tensors have more than {MAX_NAMES} bytes, beyond any model"
            )),
            false => Ok(()),
        }
    }
}

fn collect_attributes(
    value: &Value,
    prefix: &str,
    tensors: &mut Vec<(String, Rc<TensorRef>)>,
    depth: usize,
    visited: &mut Visited,
) -> std::result::Result<(), String> {
    let Value::Object(object) = value else {
        return Ok(());
    };
    let Some(Value::Dict(attributes)) = &*object.state.borrow() else {
        return Ok(());
    };
    for (key, value) in attributes.borrow().iter() {
        let Some(key) = key.as_str() else { continue };
        let name = if prefix.is_empty() {
            key.to_string()
        } else {
            format!("{prefix}.{key}")
        };
        visited.add(&name, depth)?;
        match value {
            Value::Tensor(tensor) => tensors.push((name, tensor.clone())),
            _ => collect_attributes(value, &name, tensors, depth + 1, visited)?,
        }
    }
    Ok(())
}
