//! Named tensors of a checkpoint, on the host, read when asked for.

use crate::error::{Error, Result};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Tensors by name. Cheap to build from a file of any size: the values stay in the mapped file.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, HostTensor>,
}

impl StateDict {
    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: HostTensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&HostTensor> {
        self.tensors.get(name)
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<HostTensor> {
        self.tensors.remove(name)
    }

    /// Names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names with their tensors, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HostTensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Renames tensors; `None` drops one.
    pub fn rename(self, mut name: impl FnMut(&str) -> Option<String>) -> Self {
        let renamed = self
            .tensors
            .into_iter()
            .filter_map(|(old, tensor)| Some((name(&old)?, tensor)));
        Self {
            tensors: renamed.collect(),
        }
    }

    /// Total number of values.
    pub fn scalars(&self) -> usize {
        self.tensors.values().map(HostTensor::len).sum()
    }
}

impl FromIterator<(String, HostTensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, HostTensor)>>(tensors: I) -> Self {
        Self {
            tensors: tensors.into_iter().collect(),
        }
    }
}

impl IntoIterator for StateDict {
    type Item = (String, HostTensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, HostTensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum StoredType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl StoredType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether the values are floating point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }
}

/// Bytes that tensors share: a mapped file, or a buffer.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Elements of a tensor that has less data than elements, as `expand` makes them in PyTorch.
const MAX_REPEATED: usize = 1 << 24;

/// Product of the sides of a tensor, those of length zero left out.
const MAX_SPAN: usize = 1 << 48;

/// One stored tensor.
#[derive(Clone)]
pub struct HostTensor {
    shape: Vec<usize>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    /// Elements of a buffer, `strides` and `range` counted in elements of `dtype` from the buffer's `offset` byte.
    Stored {
        bytes: SharedBytes,
        dtype: StoredType,
        range: Range<usize>,
        strides: Vec<usize>,
    },
    /// Along the first axis.
    Concatenated(Vec<HostTensor>),
    /// Of a matrix.
    Transposed(Box<HostTensor>),
    /// Row `i` is row `order[i]` of a tensor; a row is what one index of the first axis gives.
    Reordered(Box<HostTensor>, Arc<[usize]>),
    /// Computed on the host.
    Values(Arc<Vec<f32>>),
    /// Fetched when asked for, from a device for example.
    Deferred(Arc<dyn Fn() -> Vec<f32> + Send + Sync>),
}

impl HostTensor {
    /// Values in row-major order.
    ///
    /// # Panics
    ///
    /// Panics if the number of values is not that of the shape.
    pub fn from_values(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        assert_eq!(values.len(), shape.iter().product::<usize>());
        Self {
            shape,
            content: Content::Values(Arc::new(values)),
        }
    }

    /// Values in row-major order that `read` fetches whenever they are asked for, so that a model on a device can be
    /// written without a copy of all of it on the host.
    ///
    /// # Panics
    ///
    /// Reading panics if the number of values is not that of the shape.
    pub fn deferred(
        shape: impl Into<Vec<usize>>,
        read: impl Fn() -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        Self {
            shape: shape.into(),
            content: Content::Deferred(Arc::new(read)),
        }
    }

    /// A view of `bytes` from byte `offset` on; `None` if it would reach past their end, if strides repeat a little data
    /// beyond 2²⁴ elements, or if its sides beside one of length zero are beyond any tensor.
    pub fn stored(
        bytes: SharedBytes,
        dtype: StoredType,
        offset: usize,
        shape: Vec<usize>,
        strides: Option<Vec<usize>>,
    ) -> Option<Self> {
        let len = shape
            .iter()
            .try_fold(1usize, |len, side| len.checked_mul(*side))?;
        // No data bounds the sides of an empty tensor, but some of them are multiplied or added up later.
        let sides = shape.iter().map(|side| (*side).max(1));
        let spanned = sides.fold(1usize, usize::saturating_mul);
        if spanned > MAX_SPAN {
            return None;
        }
        let strides = strides.unwrap_or_else(|| row_major(&shape));
        if strides.len() != shape.len() {
            return None;
        }
        let mut reach = usize::from(len > 0);
        for (side, stride) in shape.iter().zip(&strides) {
            if len > 0 {
                reach = reach.checked_add((side - 1).checked_mul(*stride)?)?;
            }
        }
        if len > reach.max(MAX_REPEATED) {
            return None;
        }
        let end = offset.checked_add(reach.checked_mul(dtype.size())?)?;
        if end > (*bytes).as_ref().len() {
            return None;
        }
        Some(Self {
            shape,
            content: Content::Stored {
                bytes,
                dtype,
                range: offset..end,
                strides,
            },
        })
    }

    /// One tensor of several, joined along the first axis.
    pub fn concatenate(parts: Vec<Self>) -> Option<Self> {
        let first = parts.first()?;
        if parts
            .iter()
            .any(|part| part.shape.is_empty() || part.shape[1..] != first.shape[1..])
        {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        Some(Self {
            shape,
            content: Content::Concatenated(parts),
        })
    }

    /// Some rows of this tensor; a row is what one index of the first axis gives.
    ///
    /// # Panics
    ///
    /// Panics if `rows` leads past the end of the first axis.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.shape[0], "{rows:?} of {:?}", self.shape);
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let (whole, row) = (self.clone(), shape[1..].iter().product::<usize>());
        Self::deferred(shape, move || {
            whole.values()[rows.start * row..rows.end * row].to_vec()
        })
    }

    /// The transpose of a matrix; anything else stays as it is.
    pub fn transpose(self) -> Self {
        match self.shape[..] {
            [rows, columns] => Self {
                shape: vec![columns, rows],
                content: Content::Transposed(Box::new(self)),
            },
            _ => self,
        }
    }

    /// Row `i` of the result is row `order[i]` of this tensor.
    ///
    /// # Panics
    ///
    /// Panics if `order` is not as long as the first axis or leads past its end.
    pub fn reorder_rows(self, order: Vec<usize>) -> Self {
        let rows = self.shape[0];
        assert!(order.len() == rows && order.iter().all(|row| *row < rows));
        Self {
            shape: self.shape.clone(),
            content: Content::Reordered(Box::new(self), order.into()),
        }
    }

    /// The same values under another shape of equal size; `None` if the sizes differ.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Option<Self> {
        let shape = shape.into();
        if shape.iter().product::<usize>() != self.len() {
            return None;
        }
        // Strides belong to the stored shape, so anything but a plain row-major view is copied.
        let content = match self.content {
            Content::Stored {
                bytes,
                dtype,
                range,
                strides,
            } if strides == row_major(&self.shape) => Content::Stored {
                bytes,
                dtype,
                range,
                strides: row_major(&shape),
            },
            Content::Deferred(read) => Content::Deferred(read),
            Content::Values(values) => Content::Values(values),
            _ => Content::Values(Arc::new(self.values())),
        };
        Some(Self { shape, content })
    }

    /// Extent along each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the values are floating point numbers.
    pub fn is_float(&self) -> bool {
        match &self.content {
            Content::Stored { dtype, .. } => dtype.is_float(),
            Content::Concatenated(parts) => parts.iter().all(Self::is_float),
            Content::Transposed(matrix) => matrix.is_float(),
            Content::Reordered(rows, _) => rows.is_float(),
            Content::Values(_) | Content::Deferred(_) => true,
        }
    }

    /// All values in row-major order, converted to f32.
    pub fn values(&self) -> Vec<f32> {
        match &self.content {
            Content::Values(values) => values.to_vec(),
            Content::Deferred(read) => {
                let values = read();
                assert_eq!(values.len(), self.len());
                values
            }
            Content::Concatenated(parts) => parts.iter().flat_map(Self::values).collect(),
            Content::Transposed(matrix) => transpose(&matrix.values(), &matrix.shape),
            Content::Reordered(rows, order) => {
                let values = rows.values();
                let row = values.len() / order.len().max(1);
                let at = |i: &usize| &values[i * row..(i + 1) * row];
                order.iter().flat_map(at).copied().collect()
            }
            Content::Stored {
                bytes,
                dtype,
                range,
                strides,
            } => {
                let stored = decode(*dtype, &(**bytes).as_ref()[range.clone()]);
                if *strides == row_major(&self.shape) {
                    stored
                } else {
                    gather(&stored, &self.shape, strides)
                }
            }
        }
    }
}

impl fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostTensor{:?}", self.shape)
    }
}

fn decode(dtype: StoredType, bytes: &[u8]) -> Vec<f32> {
    macro_rules! as_f32 {
        ($type:ty) => {
            bytes
                .chunks_exact(size_of::<$type>())
                .map(|raw| <$type>::from_le_bytes(raw.try_into().expect("exact chunk")) as f32)
                .collect()
        };
        ($type:ty, $convert:expr) => {
            bytes
                .chunks_exact(2)
                .map(|raw| $convert(<$type>::from_le_bytes([raw[0], raw[1]])))
                .collect()
        };
    }
    match dtype {
        StoredType::F64 => as_f32!(f64),
        StoredType::F32 => as_f32!(f32),
        StoredType::F16 => as_f32!(f16, f16::to_f32),
        StoredType::Bf16 => as_f32!(bf16, bf16::to_f32),
        StoredType::I64 => as_f32!(i64),
        StoredType::I32 => as_f32!(i32),
        StoredType::I16 => as_f32!(i16),
        StoredType::I8 => as_f32!(i8),
        StoredType::U8 | StoredType::Bool => bytes.iter().map(|byte| f32::from(*byte)).collect(),
    }
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        // An empty tensor may have sides whose product no number holds.
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

fn transpose(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let (rows, columns) = (shape[0], shape[1]);
    let mut out = Vec::with_capacity(values.len());
    if values.is_empty() {
        return out; // without rows there may be any number of columns
    }
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

fn gather(stored: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let len = shape.iter().product();
    let mut out = Vec::with_capacity(len);
    for flat in 0..len {
        let (mut rest, mut at) = (flat, 0);
        for (side, stride) in shape.iter().zip(strides).rev() {
            at += rest % side * stride;
            rest /= side;
        }
        out.push(stored[at]);
    }
    out
}

/// Refuses a state dict without a single float: it cannot be a model.
pub(super) fn require_floats(dict: StateDict, path: &std::path::Path) -> Result<StateDict> {
    if dict.iter().any(|(_, tensor)| tensor.is_float()) {
        return Ok(dict);
    }
    Err(Error::format(path, "the file holds no weights"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_views_concatenation_and_transposition_read_in_row_major_order() {
        let raw: Vec<u8> = (0..6).flat_map(|x| (x as f32).to_le_bytes()).collect();
        let bytes: SharedBytes = Arc::new(raw);
        let view = |shape: &[usize], strides: Option<Vec<usize>>| {
            HostTensor::stored(bytes.clone(), StoredType::F32, 0, shape.to_vec(), strides)
        };
        let plain = view(&[2, 3], None).unwrap();
        assert_eq!(plain.clone().transpose().values(), [0., 3., 1., 4., 2., 5.]);
        assert_eq!(
            view(&[3, 2], Some(vec![1, 3])).unwrap().values(),
            [0., 3., 1., 4., 2., 5.]
        );
        let joined = HostTensor::concatenate(vec![plain.clone(), plain.clone()]).unwrap();
        assert_eq!(joined.shape(), [4, 3]);
        assert_eq!(joined.values()[6..], joined.values()[..6]);
        assert_eq!(
            joined.reorder_rows(vec![3, 0, 0, 1]).values(),
            [3., 4., 5., 0., 1., 2., 0., 1., 2., 3., 4., 5.]
        );
        assert_eq!(
            plain.transpose().reshape([6]).unwrap().values(),
            [0., 3., 1., 4., 2., 5.]
        );
        assert!(view(&[2, 4], None).is_none(), "reaches past the end");
        assert!(view(&[usize::MAX, 2], None).is_none(), "overflows");
        let repeated = |rows: usize| view(&[rows, 3], Some(vec![0, 1]));
        assert_eq!(repeated(2).unwrap().values(), [0., 1., 2., 0., 1., 2.]);
        assert!(repeated(1 << 40).is_none(), "terabytes out of 12 bytes");
    }
}
