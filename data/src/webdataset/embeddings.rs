//! Text embeddings in shards of their own beside the image shards, as LLM2CLIP stores them.
//!
//! `00000.tar` has a sibling `00000_text_embeddings.tar` with a member `KEY.FIELD` for each sample and caption field.
//! A member is a raw little-endian f32 buffer (LLM2CLIP's form), an `.npy` array or a safetensors
//! file with one tensor.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::cache::IndexCache;
use super::shard::{Part, Shard, open_file, read_part};
use crate::error::{DataError, Place};
use crate::npy;
use crate::problem::Problem;

/// Which embeddings are read, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingShards {
    /// What the sibling's name has before `.tar`, after the shard's name.
    pub suffix: String,
    /// Folder of the siblings, if it is not that of the shards.
    pub directory: Option<PathBuf>,
    /// Extensions of the members, which are the names of the caption fields that were embedded; upper
    /// or lower case does not matter.
    pub fields: Vec<String>,
}

impl Default for EmbeddingShards {
    /// LLM2CLIP's two fields: the short and the long caption of the ShareGPT4V captioner.
    fn default() -> Self {
        Self {
            suffix: "_text_embeddings".into(),
            directory: None,
            fields: vec!["shortSV_captions".into(), "longSV_captions".into()],
        }
    }
}

impl EmbeddingShards {
    /// The sibling of a shard.
    pub fn sibling(&self, shard: &Path) -> PathBuf {
        let stem = shard.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}{}.tar", self.suffix);
        match &self.directory {
            Some(directory) => directory.join(name),
            None => shard.with_file_name(name),
        }
    }

    /// Opens the sibling of `shard` and drops the samples of `shard` that have no embedding there.
    pub(super) fn attach(
        &self,
        shard: &mut Shard,
        cache: &IndexCache,
        problems: &mut Vec<Problem>,
    ) -> Result<Shard, DataError> {
        let path = self.sibling(&shard.path);
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|field| field.to_lowercase())
            .collect();
        let (sibling, damage) = Shard::open(&path, &fields, cache)?;
        problems.extend(
            damage
                .into_iter()
                .map(|(place, what)| Problem::new(&path, place, what)),
        );

        // Siblings written in the order of the shard, the usual case, need no map.
        let same_order = sibling.len() == shard.len()
            && (0..shard.len()).all(|index| shard.sample(index).key == sibling.sample(index).key);
        let by_key: HashMap<&str, usize> = match same_order {
            true => HashMap::new(),
            false => (0..sibling.len())
                .map(|index| (sibling.sample(index).key, index))
                .collect(),
        };
        let shard_path = shard.path.clone();
        shard.retain(|index, sample| {
            let found = if same_order {
                Some(index)
            } else {
                by_key.get(sample.key).copied()
            };
            let complete = found.filter(|found| sibling.sample(*found).parts.len() == fields.len());
            if complete.is_none() {
                let what = format!("no embedding in {}", path.display());
                problems.push(Problem::new(
                    &shard_path,
                    Place::Member(sample.key.to_string()),
                    what,
                ));
            }
            complete
        });
        Ok(sibling)
    }
}

/// The stored embeddings of one sample: where they lie. Only those that are asked for are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardEmbeddings {
    sibling: PathBuf,
    key: String,
    /// Field and place of each, in the configured order.
    fields: Vec<(String, Part)>,
}

impl ShardEmbeddings {
    /// Those of sample `index` of a sibling shard that was opened for `fields`.
    pub(super) fn of(sibling: &Shard, index: usize, fields: &[String]) -> Self {
        let sample = sibling.sample(index);
        let mut parts = sample.parts.to_vec();
        parts.sort_by_key(|part| part.extension);
        let named = |part: Part| (fields[usize::from(part.extension)].clone(), part);
        Self {
            sibling: sibling.path.clone(),
            key: sample.key.to_string(),
            fields: parts.into_iter().map(named).collect(),
        }
    }

    /// The fields that are there, in the configured order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(field, _)| field.as_str())
    }

    /// Reads the vector of one field; upper or lower case does not matter.
    ///
    /// # Errors
    ///
    /// Fails if there is no such field, if the shard changed since it was opened, and if a number is
    /// not finite.
    pub fn read(&self, field: &str) -> Result<Vec<f32>, DataError> {
        let fail =
            |what| DataError::malformed(&self.sibling, Place::Member(self.key.clone()), what);
        let found = self
            .fields
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(field));
        let Some((_, part)) = found else {
            let names: Vec<_> = self.fields().collect();
            let what = format!(
                "no embedding `{field}` is configured; there are {}",
                names.join(", ")
            );
            return Err(fail(what));
        };
        let mut file = open_file(&self.sibling)?;
        let vector =
            parse(&read_part(&self.sibling, &mut file, *part, &self.key)?).map_err(fail)?;
        match vector.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(fail(format!(
                "number {at} of the embedding `{field}` is {}; make it again",
                vector[at]
            ))),
            None => Ok(vector),
        }
    }
}

/// One vector in any of the three forms.
fn parse(bytes: &[u8]) -> Result<Vec<f32>, String> {
    if npy::is_npy(bytes) {
        return npy::parse(bytes).map(|array| array.values);
    }
    // A safetensors file begins with the length of its JSON header. Read as floats such a length is
    // a denormal and a zero followed by text, which no embedding is.
    if let Ok(file) = SafeTensors::deserialize(bytes) {
        return safetensor(&file);
    }
    if bytes.is_empty() || !bytes.len().is_multiple_of(4) {
        return Err(format!(
            "{} bytes are no f32 vector, .npy array or safetensors file",
            bytes.len()
        ));
    }
    Ok(bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

fn safetensor(file: &SafeTensors) -> Result<Vec<f32>, String> {
    let tensors = file.tensors();
    let [(_, tensor)] = tensors.as_slice() else {
        return Err(format!(
            "a safetensors file with {} tensors; one is needed",
            tensors.len()
        ));
    };
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => Ok(data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()),
        Dtype::F16 => Ok(data
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect()),
        Dtype::BF16 => Ok(data
            .chunks_exact(2)
            .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect()),
        other => Err(format!(
            "safetensors of {other:?} are not read; use F32, F16 or BF16"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    #[test]
    fn the_three_forms_hold_the_same_vector() {
        let values = [1.0f32, -2.5, 0.0];
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let halves: Vec<u8> = values
            .iter()
            .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
            .collect();
        let tensor = TensorView::new(Dtype::BF16, vec![3], &halves).unwrap();
        let file = safetensors::serialize([("embedding", tensor)], None).unwrap();
        assert_eq!(parse(&raw).unwrap(), values);
        assert_eq!(
            parse(&npy::tests::npy("<f4", "(3,)", &raw)).unwrap(),
            values
        );
        assert_eq!(parse(&file).unwrap(), values);
        assert!(parse(&raw[..7]).unwrap_err().contains("7 bytes"));
    }

    #[test]
    fn a_sibling_is_named_after_its_shard() {
        let mut config = EmbeddingShards::default();
        assert_eq!(
            config.sibling(Path::new("d/00012.tar")),
            Path::new("d/00012_text_embeddings.tar")
        );
        config.directory = Some("e".into());
        assert_eq!(
            config.sibling(Path::new("d/00012.tar")),
            Path::new("e/00012_text_embeddings.tar")
        );
    }
}
