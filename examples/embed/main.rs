//! Images and texts → embeddings: one safetensors file, or a folder of NumPy files in parts.

mod encoder;
mod input;
mod list;
mod parts;
mod pixels;

use anyhow::{Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::{Parser, ValueEnum};
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{
    Asked, ComputeArgs, DistArgs, ModelArgs, Shard, Shares, check_writable, exit_code, output,
    parse_or_merge,
};
use clip_burn::data::npy::Float;
use clip_burn::eval::embedded::{Embedded, ShareNote, Work, merge};
use clip_burn::eval::extract::text_features;
use clip_burn::eval::{DualEncoder, Extraction, TextEncoder};
use encoder::Encoder;
use input::InputArgs;
use list::List;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Embed images and texts with a CLIP model
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example embed -- --model models/mine --images photos/ --texts captions.txt --out e.safetensors
  cargo run --release --example embed -- --model models/mine --images photos/ --out e.safetensors --shard 2/4
  cargo run --release --example embed -- merge e.safetensors
  cargo run --release --features parquet --example embed -- --model models/mine --webdataset 'cc3m/{00000..00331}.tar' \\
    --format npy --dtype f16 --out embeddings

Writes image_features [n, d], text_features [m, d] and logit_scale [1] (already exponentiated); the metadata holds
image_paths and texts as JSON arrays. With --format npy the folders of clip-retrieval: img_emb/img_emb_0.npy,
text_emb/text_emb_0.npy, metadata/metadata_0.parquet and so on, of which a killed run keeps the finished ones; docs/embed.md
tells more. Exit code 2: some images could not be read; they are named on stderr and left out. With --shard the file is
e.shard-2-of-4.safetensors; docs/scale-out.md has scripts for job arrays.")]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    /// The safetensors file, or with --format npy the folder, to write
    #[arg(long)]
    out: PathBuf,
    /// One file, whose rows are in memory until it is written; or parts in folders, of any number of rows
    #[arg(long, value_enum, default_value_t = Format::Safetensors)]
    format: Format,
    /// How embeddings are kept
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// With --format npy: how the names of the rows are written; parquet needs the feature of this name
    #[arg(long, value_enum, default_value_t = Metadata::Parquet)]
    metadata: Metadata,
    /// With --format npy: rows of a part
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    write_batch_size: u64,
    /// Embed share I of N only, I counted from 0, and put the share into the name of --out; `merge` puts them together.
    /// A share that is there already is not made again. With --format npy: make a share of the parts, all in one folder
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// With --shard, --dist or --format npy: make again what is there already, or replace what was made of other work
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    dist: DistArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Images or texts at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Keep the length of the embeddings
    #[arg(long)]
    no_normalize: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Safetensors,
    Npy,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    F16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Metadata {
    Parquet,
    Jsonl,
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<ExitCode> {
    match parse_or_merge::<Arguments>() {
        Asked::Work(mut arguments) => {
            let shares = arguments
                .dist
                .join(&mut arguments.shard, &mut arguments.compute)?;
            let whole = arguments.out.clone();
            shares.then(embed(arguments), || {
                let merged = put_together(&whole)?;
                Shares::remove(&whole, &[]);
                Ok(merged)
            })
        }
        Asked::Merge(whole) => put_together(&whole),
    }
}

fn put_together(whole: &Path) -> Result<ExitCode> {
    if whole.is_dir() {
        return parts::check(whole);
    }
    check_writable(whole)?;
    let merged = merge(whole)?;
    eprintln!(
        "{}: {} images and {} texts of {} shares, which may be removed",
        whole.display(),
        merged.images,
        merged.texts,
        merged.shares
    );
    Ok(tell_left_out(&merged.left_out, merged.listed))
}

/// Names images that could not be read, and gives the exit code that says so.
fn tell_left_out(reasons: &[String], of: usize) -> ExitCode {
    for reason in reasons {
        eprintln!("left out: {reason}");
    }
    if !reasons.is_empty() {
        eprintln!("{} of {of} images could not be read", reasons.len());
    }
    exit_code(reasons.len())
}

/// Says how many texts lost their end.
fn tell_truncated(truncated: Option<usize>, of: usize) {
    if let Some(cut @ 1..) = truncated {
        eprintln!("{cut} of {of} texts are longer than the model reads; their ends have no say");
    }
}

fn embed(arguments: Arguments) -> Result<ExitCode> {
    arguments.compute.check()?;
    arguments.input.check()?;
    match arguments.format {
        Format::Npy => parts::check_folder(&arguments.out)?,
        Format::Safetensors => {
            if arguments.input.parquet.is_some() || arguments.input.webdataset.is_some() {
                bail!("--parquet and --webdataset are written in parts: add --format npy");
            }
            if arguments.overwrite && arguments.shard.is_none() {
                bail!(
                    "--overwrite is for shares and parts; without these --out is written anew in any case"
                );
            }
            check_writable(&output(&arguments.out, arguments.shard))?;
        }
    }
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
        if arguments.format == Format::Npy {
            return parts::embed::<B>(&arguments, &device);
        }
        let list = List::read(&arguments)?;
        let model = arguments
            .model
            .load::<B>(arguments.compute.precision, &device)?;
        let encoder = Encoder {
            model: &model,
            normalize: !arguments.no_normalize,
        };
        if let Some(file) = &arguments.input.pixels {
            list.pixels.check(&encoder, file)?;
        }
        let work = arguments.work(&list, &encoder, &device)?;
        let share = arguments.shard.unwrap_or(Shard::WHOLE);
        let (image_rows, text_rows) = (work.images_of(share), work.texts_of(share));
        let out = output(&arguments.out, arguments.shard);
        if arguments.shard.is_some()
            && !arguments.overwrite
            && let Some(there) = ShareNote::find(&out, share, &work)?
        {
            eprintln!("{}: share {share} is there already", out.display());
            return Ok(tell_left_out(there.left_out(), image_rows.len()));
        }

        let options = Extraction {
            batch_size: work.batch_size,
            max_bad: usize::MAX,
            progress: true,
            ..Extraction::default()
        };
        let images = list.embed_images(&encoder, image_rows.clone(), &options, &device)?;
        let texts = list.texts[text_rows].to_vec();
        tell_truncated(encoder.truncated(&texts), texts.len());
        let embedded = Embedded {
            embed_dim: model.embed_dim(),
            images: images.rows,
            image_paths: images.paths,
            text_features: text_features(&encoder, &texts, &options)?.to_vec(),
            texts,
            scale: model.scale().unwrap_or(1.0),
            float: arguments.dtype.float(),
        };
        let note = ShareNote::new(share, &work, images.left_out.clone());
        embedded.save(&out, arguments.shard.map(|_| &note))?;
        Ok(tell_left_out(&images.left_out, image_rows.len()))
    }
}

impl Arguments {
    /// What all shares have in common.
    fn work<B: Backend>(
        &self,
        list: &List,
        encoder: &Encoder<B>,
        device: &B::Device,
    ) -> Result<Work> {
        Ok(Work {
            images: list.images(),
            texts: list.texts.len(),
            batch_size: self.batch_size as usize,
            list: list.digest(),
            // Reads all weights, which only shares need.
            model: match self.shard {
                Some(_) => encoder.model.identity()?.unwrap_or_default(),
                None => String::new(),
            },
            options: self.options::<B>(device),
        })
    }

    /// What decides the numbers beside the model and the list.
    fn options<B: Backend>(&self, device: &B::Device) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("backend".into(), B::name(device)),
            ("dtype".into(), self.dtype.float().descr().into()),
            ("precision".into(), self.compute.precision.to_string()),
            ("normalize".into(), (!self.no_normalize).to_string()),
        ])
    }
}

impl Dtype {
    fn float(self) -> Float {
        match self {
            Self::F32 => Float::F32,
            Self::F16 => Float::F16,
        }
    }
}
