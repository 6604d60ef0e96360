//! One file of a store.

use std::path::Path;

use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{StoreInfo, StoreType, hash};
use crate::error::{DataError, Place};
use crate::lines::MappedFile;

/// What a sample brings into a store: its key and its captions, in the order of the store's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Key of the sample.
    pub key: String,
    /// Captions; `None` where the sample has none of that name.
    pub captions: Vec<Option<String>>,
}

/// A mapped file: vectors `[rows, fields, width]`, hashes of captions `[rows, fields]` and of keys `[rows]`.
#[derive(Debug)]
pub(super) struct Part {
    file: MappedFile,
    embeddings: usize,
    captions: usize,
    keys: usize,
}

const DESCRIPTION: &str = "store";

/// What every file of a store says of it: all but the number of samples, so that a source may grow.
fn description(info: &StoreInfo, part: usize) -> String {
    let StoreInfo {
        llm,
        width,
        dtype,
        fields,
        part: size,
        ..
    } = info;
    serde_json::json!({
        "llm": llm, "width": width, "dtype": dtype, "fields": fields, "part": size, "number": part
    })
    .to_string()
}

impl Part {
    /// Opens file number `part` and checks that it is one of this store, and whole.
    pub fn open(folder: &Path, info: &StoreInfo, part: usize) -> Result<Self, DataError> {
        let path = StoreInfo::part_path(folder, part);
        let wrong = |what: String| DataError::malformed(&path, Place::Whole, what);
        let file = MappedFile::open(&path)?;
        let (header, metadata) = SafeTensors::read_metadata(&file).map_err(|e| {
            wrong(format!(
                "no safetensors file: {e}; remove it and run embed_captions again"
            ))
        })?;
        let said = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get(DESCRIPTION));
        if said != Some(&description(info, part)) {
            return Err(wrong(format!(
                "belongs to another store: it says {}, expected {}; choose another folder, or remove this one",
                said.map_or("nothing", String::as_str),
                description(info, part)
            )));
        }
        let rows = info.part.min(info.samples - part * info.part);
        let fields = info.fields.len();
        let start = |name: &str, dtype: Dtype, shape: &[usize]| {
            let tensor = metadata.info(name);
            let tensor = tensor.filter(|tensor| tensor.shape == shape && tensor.dtype == dtype);
            let tensor = tensor.ok_or_else(|| {
                wrong(format!("`{name}` is not {dtype:?} of shape {shape:?}; remove the file and run embed_captions again"))
            })?;
            let end = header + 8 + tensor.data_offsets.1;
            if file.len() < end {
                let what = format!("the file is cut: {} bytes of {end}", file.len());
                return Err(wrong(what));
            }
            Ok(header + 8 + tensor.data_offsets.0)
        };
        Ok(Self {
            embeddings: start("embeddings", numbers(info), &[rows, fields, info.width])?,
            captions: start("captions", Dtype::U64, &[rows, fields])?,
            keys: start("keys", Dtype::U64, &[rows])?,
            file,
        })
    }

    pub fn key(&self, row: usize) -> u64 {
        self.word(self.keys + 8 * row)
    }

    /// Hash of the caption in a slot, `row · fields + field`.
    pub fn caption(&self, slot: usize) -> u64 {
        self.word(self.captions + 8 * slot)
    }

    pub fn vector(&self, slot: usize, info: &StoreInfo) -> Vec<f32> {
        let bytes = info.width * info.dtype.size();
        let start = self.embeddings + slot * bytes;
        let bytes = &self.file[start..start + bytes];
        match info.dtype {
            StoreType::F32 => {
                let value = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                bytes.chunks_exact(4).map(value).collect()
            }
            StoreType::Bf16 => {
                let value = |b: &[u8]| bf16::from_le_bytes([b[0], b[1]]).to_f32();
                bytes.chunks_exact(2).map(value).collect()
            }
        }
    }

    /// The first row that is not the one that stands here, and what differs.
    pub fn differs(&self, rows: &[Row]) -> Option<(usize, String)> {
        rows.iter().enumerate().find_map(|(at, row)| {
            if self.key(at) != hash(&row.key) {
                return Some((at, format!("another sample than `{}`", row.key)));
            }
            let slots = row.captions.iter().enumerate();
            let mut slots =
                slots.map(|(field, caption)| (at * row.captions.len() + field, caption));
            let changed = slots.any(|(slot, caption)| self.caption(slot) != hash_of(caption));
            changed.then(|| (at, format!("another caption of `{}`", row.key)))
        })
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.file[at..at + 8].try_into().expect("eight bytes"))
    }
}

pub(super) fn hash_of(caption: &Option<String>) -> u64 {
    caption.as_deref().map_or(0, hash)
}

/// The bytes of a file. `vectors` are those of the captions that are there, in their order.
pub(super) fn encode(
    info: &StoreInfo,
    part: usize,
    rows: &[Row],
    vectors: &[f32],
) -> Result<Vec<u8>, String> {
    let filled = rows.iter().flat_map(|row| &row.captions).flatten().count();
    if vectors.len() != filled * info.width {
        return Err(format!(
            "{} numbers for {filled} captions of width {}",
            vectors.len(),
            info.width
        ));
    }
    let slots = rows.len() * info.fields.len();
    let mut embeddings = Vec::with_capacity(slots * info.width * info.dtype.size());
    let mut vectors = vectors.chunks_exact(info.width);
    let absent = vec![0.0; info.width];
    for caption in rows.iter().flat_map(|row| &row.captions) {
        let vector = match caption {
            Some(_) => vectors.next().expect("as many as captions"),
            None => &absent,
        };
        match info.dtype {
            StoreType::F32 => embeddings.extend(vector.iter().flat_map(|x| x.to_le_bytes())),
            StoreType::Bf16 => {
                embeddings.extend(vector.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()));
            }
        }
    }
    let captions = rows.iter().flat_map(|row| &row.captions);
    let captions: Vec<u8> = captions
        .flat_map(|caption| hash_of(caption).to_le_bytes())
        .collect();
    let keys: Vec<u8> = rows
        .iter()
        .flat_map(|row| hash(&row.key).to_le_bytes())
        .collect();
    let dtype = numbers(info);
    let (n, fields) = (rows.len(), info.fields.len());
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes);
    let views = [
        (
            "embeddings",
            view(dtype, &[n, fields, info.width], &embeddings),
        ),
        ("captions", view(Dtype::U64, &[n, fields], &captions)),
        ("keys", view(Dtype::U64, &[n], &keys)),
    ];
    let views: Result<Vec<_>, _> = views
        .into_iter()
        .map(|(name, view)| Ok((name, view?)))
        .collect();
    let metadata = [(DESCRIPTION.to_string(), description(info, part))].into();
    let views = views.map_err(|e: safetensors::SafeTensorError| e.to_string())?;
    safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())
}

/// The type of the vectors in a file.
fn numbers(info: &StoreInfo) -> Dtype {
    match info.dtype {
        StoreType::F32 => Dtype::F32,
        StoreType::Bf16 => Dtype::BF16,
    }
}

/// Writes a file whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    files::write(path, bytes).map_err(|error| DataError::io(path, error))
}
