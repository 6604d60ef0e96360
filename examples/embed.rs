//! Images and texts → one safetensors file of embeddings.

use anyhow::{Context, Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::TensorData;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, ModelArgs, check_writable, image_paths, lines, progress};
use clip_burn::clip::checkpoint::{HostTensor, read_state_dict};
use clip_burn::clip::nn::l2_normalize;
use clip_burn::eval::DualEncoder;
use clip_burn::models::Model;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Embed images and texts with a CLIP model
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example embed -- --model models/mine --images photos/ --texts captions.txt --out embeddings.safetensors

Writes image_features [n, d], text_features [m, d] and logit_scale [1] (already exponentiated), f32;
the metadata holds image_paths and texts as JSON arrays. Exit code 2: some images could not be read;
they are named on stderr and left out.")]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Files, directories (walked recursively, sorted by path) or .txt lists of paths
    #[arg(long, num_args = 1.., conflicts_with = "pixels")]
    images: Vec<PathBuf>,
    /// Preprocessed images in place of --images: a safetensors file with `pixels [n, 3, h, w]`, f32, normalized
    #[arg(long)]
    pixels: Option<PathBuf>,
    /// A file with one text per line
    #[arg(long)]
    texts: Option<PathBuf>,
    /// The safetensors file to write
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Images or texts at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Keep the length of the embeddings
    #[arg(long)]
    no_normalize: bool,
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    arguments.compute.check()?;
    if arguments.images.is_empty() && arguments.pixels.is_none() && arguments.texts.is_none() {
        bail!("nothing to embed: give --images, --pixels or --texts");
    }
    check_writable(&arguments.out)?;
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, Embed(arguments))
}

struct Embed(Arguments);

impl Job for Embed {
    type Out = Result<ExitCode>;

    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(arguments) = self;
        let paths = image_paths(&arguments.images)?;
        let texts = arguments
            .texts
            .as_deref()
            .map(lines)
            .transpose()?
            .unwrap_or_default();
        let model = arguments
            .model
            .load::<B>(arguments.compute.precision, &device)?;
        let batch = arguments.batch_size as usize;
        let normalize = !arguments.no_normalize;

        let mut read_paths = Vec::new();
        let mut image_features = Features::new(normalize);
        if let Some(file) = &arguments.pixels {
            embed_pixels(&model, file, batch, &device, &mut image_features)?;
        }
        let bar = progress(paths.len(), "images");
        for paths in paths.chunks(batch) {
            let (pixels, read) = model.preprocess().load_batch(paths);
            for (path, read) in paths.iter().zip(read) {
                match read {
                    Ok(()) => read_paths.push(path.display().to_string()),
                    Err(error) => bar.suspend(|| eprintln!("left out: {error}")),
                }
            }
            if pixels.n > 0 {
                let pixels = pixels.to_tensor(model.preprocess().config(), &device);
                image_features.push(model.image_embeddings(pixels));
            }
            bar.inc(paths.len() as u64);
        }
        bar.finish_and_clear();
        let unread = paths.len() - read_paths.len();

        let mut text_features = Features::new(normalize);
        let bar = progress(texts.len(), "texts");
        for texts in texts.chunks(batch) {
            text_features.push(model.text_embeddings(texts)?);
            bar.inc(texts.len() as u64);
        }
        bar.finish_and_clear();

        let scale = vec![model.scale().unwrap_or(1.0)];
        let embed_dim = model.embed_dim();
        write(
            &arguments.out,
            [
                ("image_features", image_features.into_tensor(embed_dim)),
                ("text_features", text_features.into_tensor(embed_dim)),
                ("logit_scale", HostTensor::from_values(scale, [1])),
            ],
            HashMap::from([
                (
                    "image_paths".to_string(),
                    serde_json::to_string(&read_paths)?,
                ),
                ("texts".to_string(), serde_json::to_string(&texts)?),
            ]),
        )?;
        if unread > 0 {
            eprintln!("{unread} of {} images could not be read", paths.len());
            return Ok(ExitCode::from(2));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Rows on the host, batch after batch.
struct Features {
    values: Vec<f32>,
    rows: usize,
    normalize: bool,
}

impl Features {
    fn new(normalize: bool) -> Self {
        Self {
            values: Vec::new(),
            rows: 0,
            normalize,
        }
    }

    fn push<B: Backend>(&mut self, features: Tensor<B, 2>) {
        let features = if self.normalize {
            l2_normalize(features)
        } else {
            features
        };
        self.rows += features.dims()[0];
        let values = features.into_data().convert::<f32>().into_vec::<f32>();
        self.values.extend(values.expect("converted to f32"));
    }

    fn into_tensor(self, embed_dim: usize) -> HostTensor {
        HostTensor::from_values(self.values, [self.rows, embed_dim])
    }
}

fn embed_pixels<B: Backend>(
    model: &Model<B>,
    file: &Path,
    batch: usize,
    device: &B::Device,
    features: &mut Features,
) -> Result<()> {
    let tensors = read_state_dict(file)?;
    let pixels = tensors
        .get("pixels")
        .with_context(|| format!("{}: no tensor `pixels` in this file", file.display()))?;
    let [height, width] = model.preprocess().config().size;
    let &[n, 3, h, w] = pixels.shape() else {
        bail!(
            "{}: `pixels` has shape {:?}, expected [n, 3, {height}, {width}]",
            file.display(),
            pixels.shape()
        );
    };
    if [h, w] != [height, width] {
        bail!(
            "{}: `pixels` are {h}×{w}, the model wants {height}×{width}",
            file.display()
        );
    }
    let bar = progress(n, "images");
    let image = 3 * h * w;
    for values in pixels.values().chunks(batch * image) {
        let count = values.len() / image;
        let data = TensorData::new(values.to_vec(), [count, 3, h, w]);
        features.push(model.image_embeddings(Tensor::from_data(data, device)));
        bar.inc(count as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The file appears whole or not at all.
fn write(
    path: &Path,
    tensors: [(&str, HostTensor); 3],
    metadata: HashMap<String, String>,
) -> Result<()> {
    let bytes = tensors.map(|(name, tensor)| {
        let bytes: Vec<u8> = tensor
            .values()
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        (name, tensor.shape().to_vec(), bytes)
    });
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let content = safetensors::serialize(views, Some(metadata))?;
    clip_burn::clip::checkpoint::write_whole(path, &content)?;
    Ok(())
}
