//! Images and texts → one safetensors file of embeddings.

use anyhow::{Context, Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::TensorData;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{
    ComputeArgs, ModelArgs, check_writable, exit_code, image_paths, lines, parse, progress,
};
use clip_burn::clip::checkpoint::{HostTensor, read_state_dict, write_safetensors_with};
use clip_burn::clip::preprocess::Preprocess;
use clip_burn::eval::extract::{image_features, text_features};
use clip_burn::eval::features::{IMAGE_FEATURES, IMAGE_PATHS, LOGIT_SCALE, TEXT_FEATURES, TEXTS};
use clip_burn::eval::images::ImageRef;
use clip_burn::eval::{DualEncoder, EvalError, Extraction};
use clip_burn::models::Model;
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
    let arguments: Arguments = parse();
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
        let encoder = Encoder {
            model: &model,
            normalize: !arguments.no_normalize,
        };
        let options = Extraction {
            batch_size: arguments.batch_size as usize,
            max_bad: usize::MAX,
            progress: true,
        };
        let images: Vec<_> = paths.iter().cloned().map(ImageRef::File).collect();
        let read = image_features(&encoder, &images, &options, &device)?;
        for bad in &read.bad {
            eprintln!("left out: {}", bad.reason);
        }
        let read_paths: Vec<_> = read.kept.iter().map(|i| images[*i].name()).collect();
        let images = match &arguments.pixels {
            Some(file) => embed_pixels(&encoder, file, options.batch_size, &device)?,
            None => read.features.to_vec(),
        };
        let texts_read = text_features(&encoder, &texts, &options)?;

        let scale = vec![model.scale().unwrap_or(1.0)];
        let embed_dim = model.embed_dim();
        let tensors = [
            (IMAGE_FEATURES, rows(images, embed_dim)),
            (TEXT_FEATURES, rows(texts_read.to_vec(), embed_dim)),
            (LOGIT_SCALE, HostTensor::from_values(scale, [1])),
        ];
        let metadata = [
            (IMAGE_PATHS, serde_json::to_string(&read_paths)?),
            (TEXTS, serde_json::to_string(&texts)?),
        ];
        write_safetensors_with(
            &arguments.out,
            &tensors
                .map(|(name, t)| (name.to_string(), t))
                .into_iter()
                .collect(),
            &metadata.map(|(key, text)| (key.to_string(), text)).into(),
        )?;
        let unread = read.bad.len();
        if unread > 0 {
            eprintln!("{unread} of {} images could not be read", paths.len());
        }
        Ok(exit_code(unread))
    }
}

/// A model whose embeddings keep their length where that is asked for.
struct Encoder<'a, B: Backend> {
    model: &'a Model<B>,
    normalize: bool,
}

impl<B: Backend> DualEncoder<B> for Encoder<'_, B> {
    fn embed_dim(&self) -> usize {
        self.model.embed_dim()
    }

    fn preprocess(&self) -> &Preprocess {
        self.model.preprocess()
    }

    fn image_embeddings(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.model.image_embeddings(images)
    }

    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<B, 2>, EvalError> {
        self.model.text_embeddings(texts)
    }

    fn encode_images(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        match self.normalize {
            true => self.model.encode_images(images),
            false => self.model.image_embeddings(images),
        }
    }

    fn encode_texts(&self, texts: &[String]) -> Result<Tensor<B, 2>, EvalError> {
        match self.normalize {
            true => self.model.encode_texts(texts),
            false => self.model.text_embeddings(texts),
        }
    }
}

fn rows(values: Vec<f32>, embed_dim: usize) -> HostTensor {
    let rows = values.len() / embed_dim;
    HostTensor::from_values(values, [rows, embed_dim])
}

fn embed_pixels<B: Backend>(
    encoder: &Encoder<B>,
    file: &Path,
    batch: usize,
    device: &B::Device,
) -> Result<Vec<f32>> {
    let tensors = read_state_dict(file)?;
    let pixels = tensors
        .get("pixels")
        .with_context(|| format!("{}: no tensor `pixels` in this file", file.display()))?;
    let [height, width] = encoder.preprocess().config().size;
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
    let mut embedded = Vec::with_capacity(n * encoder.embed_dim());
    for values in pixels.values().chunks(batch * image) {
        let count = values.len() / image;
        let data = TensorData::new(values.to_vec(), [count, 3, h, w]);
        let rows = encoder.encode_images(Tensor::from_data(data, device));
        embedded.extend(rows.into_data().convert::<f32>().iter::<f32>());
        bar.inc(count as u64);
    }
    bar.finish_and_clear();
    Ok(embedded)
}
