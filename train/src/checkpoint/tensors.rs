//! Named tensors on the host ↔ safetensors files, bit for bit.

use crate::error::{Result, TrainError};
use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Writes tensors to `path` and waits until they are on the disk.
///
/// # Errors
///
/// When the file cannot be written, or a tensor has a type that the format lacks.
pub fn write(path: &Path, tensors: &BTreeMap<String, TensorData>) -> Result<()> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        let shape: Vec<usize> = data.shape.iter().copied().collect();
        let view = TensorView::new(file_dtype(data.dtype)?, shape, data.as_bytes());
        views.push((
            name,
            view.map_err(|e| TrainError::checkpoint(path, format!("{name}: {e}")))?,
        ));
    }
    let metadata = [("format".to_string(), "pt".to_string())].into();
    let written = safetensors::serialize_to_file(views, Some(metadata), path);
    written.map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => TrainError::io(path)(source),
        other => TrainError::checkpoint(path, other.to_string()),
    })?;
    let file = std::fs::File::open(path).map_err(TrainError::io(path))?;
    file.sync_all().map_err(TrainError::io(path))
}

/// Reads all tensors of `path`.
///
/// # Errors
///
/// When the file cannot be read or is no safetensors file.
pub fn read(path: &Path) -> Result<BTreeMap<String, TensorData>> {
    // The map of an exported model may name a device, which never ends.
    let bytes = files::regular(path).and_then(|_| std::fs::read(path));
    let bytes = bytes.map_err(TrainError::io(path))?;
    let damaged = |e: String| TrainError::checkpoint(path, format!("not a safetensors file: {e}"));
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    file.iter()
        .map(|(name, view)| {
            let dtype = host_dtype(view.dtype()).ok_or_else(|| {
                damaged(format!(
                    "`{name}` has the unsupported type {:?}",
                    view.dtype()
                ))
            })?;
            let bytes = burn::tensor::Bytes::from_bytes_vec(view.data().to_vec());
            Ok((
                name.to_string(),
                TensorData::from_bytes(bytes, view.shape().to_vec(), dtype),
            ))
        })
        .collect()
}

/// Number of elements of the f32 tensors of `path`, by name; only the header is read.
///
/// # Errors
///
/// When the file cannot be read or is no safetensors file.
pub fn lengths_in_f32(path: &Path) -> Result<BTreeMap<String, usize>> {
    let damaged = |e: String| TrainError::checkpoint(path, format!("not a safetensors file: {e}"));
    let mut file = std::fs::File::open(path).map_err(TrainError::io(path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(TrainError::io(path))?;
    let mut header = Vec::new();
    let read = file
        .take(u64::from_le_bytes(length))
        .read_to_end(&mut header);
    read.map_err(TrainError::io(path))?;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|e| damaged(e.to_string()))?;
    let tensors = header
        .into_iter()
        .filter(|(_, info)| info["dtype"] == "F32");
    let length = |info: &serde_json::Value| {
        let sides = info["shape"].as_array().into_iter().flatten();
        sides.filter_map(serde_json::Value::as_u64).product::<u64>() as usize
    };
    Ok(tensors.map(|(name, info)| (name, length(&info))).collect())
}

const TYPES: [(DType, Dtype); 6] = [
    (DType::F64, Dtype::F64),
    (DType::F32, Dtype::F32),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I64, Dtype::I64),
    (DType::I32, Dtype::I32),
];

fn file_dtype(dtype: DType) -> Result<Dtype> {
    let found = TYPES.iter().find(|(host, _)| *host == dtype);
    found.map(|(_, file)| *file).ok_or_else(|| {
        TrainError::Config(format!(
            "tensors of type {dtype:?} cannot be saved: cast them first"
        ))
    })
}

fn host_dtype(dtype: Dtype) -> Option<DType> {
    TYPES
        .iter()
        .find(|(_, file)| *file == dtype)
        .map(|(host, _)| *host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let values = vec![f32::MIN_POSITIVE, -0.0, 1.0 / 3.0, f32::MAX, 1e-42, 7.0];
        let tensors: BTreeMap<String, TensorData> = [
            ("a.weight".to_string(), TensorData::new(values, [2, 3])),
            ("step.a".to_string(), TensorData::from([12345i32])),
        ]
        .into();
        write(&path, &tensors).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back.len(), 2);
        for (name, data) in &tensors {
            assert_eq!(back[name].as_bytes(), data.as_bytes());
            assert_eq!(back[name].shape, data.shape);
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused_by_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        std::fs::write(&path, b"not tensors").unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("t.safetensors")
        );
    }
}
