//! A module's parameters → safetensors, one tensor in memory at a time.

use crate::error::{Error, Result};
use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::DType;
use clip::checkpoint::{ParamPath, write_whole};
use safetensors::Dtype;
use safetensors::tensor::View;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// A parameter that is fetched from its device when it is written.
struct Waiting {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    fetch: Box<dyn Fn() -> Vec<u8>>,
}

impl View for &Waiting {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (self.fetch)().into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * (self.dtype.bitsize() / 8)
    }
}

/// Writes `model.safetensors`, or shards of at most `shard_bytes` with their index where one file would be larger. A
/// tensor is never cut.
pub(super) fn write<B: Backend, M: Module<B>>(
    module: &M,
    directory: &Path,
    dtype: DType,
    shard_bytes: usize,
) -> Result<()> {
    let waiting = parameters(module, dtype);
    let mut shards: Vec<Vec<&Waiting>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in &waiting {
        let len = View::data_len(&tensor);
        if filled > 0 && filled + len > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += len;
        shards.last_mut().expect("never empty").push(tensor);
    }
    if let [whole] = &shards[..] {
        return write_file(&directory.join("model.safetensors"), whole);
    }
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        write_file(&directory.join(&file), shard)?;
        weight_map.extend(shard.iter().map(|tensor| (&tensor.name, file.clone())));
    }
    let total: usize = waiting.iter().map(|tensor| View::data_len(&tensor)).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    let path = directory.join("model.safetensors.index.json");
    write_whole(&path, format!("{index:#}\n").as_bytes())?;
    Ok(())
}

/// Writes tensors whole or not at all. The format's own library writes by path, so a file of ours is only moved.
fn write_file(path: &Path, tensors: &[&Waiting]) -> Result<()> {
    let partial = files::partial(path);
    // Readers in Python look for this mark of the layout.
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    let views = tensors.iter().map(|tensor| (tensor.name.as_str(), *tensor));
    let written = safetensors::serialize_to_file(views, metadata, &partial);
    let written = written.map_err(|error| Error::format(path, error.to_string()));
    let renamed = written.and_then(|()| {
        let file = std::fs::File::open(&partial).and_then(|file| file.sync_all());
        file.and_then(|()| std::fs::rename(&partial, path))
            .map_err(Error::io(path))
    });
    if renamed.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    renamed
}

fn parameters<B: Backend, M: Module<B>>(module: &M, dtype: DType) -> Vec<Waiting> {
    struct Visit(ParamPath, Vec<Waiting>, DType);
    impl<B: Backend> ModuleVisitor<B> for Visit {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let (tensor, dtype) = (param.val(), self.2);
            self.1.push(Waiting {
                name: self.0.join(),
                shape: tensor.dims().to_vec(),
                dtype: match dtype {
                    DType::BF16 => Dtype::BF16,
                    _ => Dtype::F32,
                },
                fetch: Box::new(move || {
                    let data = tensor.clone().into_data().convert_dtype(dtype);
                    data.as_bytes().to_vec()
                }),
            });
        }
    }
    let mut visit = Visit(ParamPath::default(), Vec::new(), dtype);
    Module::<B>::visit(module, &mut visit);
    visit.1
}
