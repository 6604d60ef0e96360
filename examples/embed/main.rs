//! Images and texts → one safetensors file of embeddings.

mod encoder;
mod list;
mod pixels;

use anyhow::{Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::{ArgGroup, Parser};
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{
    Asked, ComputeArgs, DistArgs, ModelArgs, Shard, Shares, check_writable, exit_code, output,
    parse_or_merge,
};
use clip_burn::eval::embedded::{Embedded, ShareNote, Work, merge};
use clip_burn::eval::extract::text_features;
use clip_burn::eval::{DualEncoder, Extraction};
use encoder::Encoder;
use list::List;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Embed images and texts with a CLIP model
#[derive(Parser)]
#[command(group(ArgGroup::new("in_shares").args(["shard", "dist"]).multiple(true)))]
#[command(after_help = "Examples:
  cargo run --release --example embed -- --model models/mine --images photos/ --texts captions.txt --out e.safetensors
  cargo run --release --example embed -- --model models/mine --images photos/ --out e.safetensors --shard 2/4
  cargo run --release --example embed -- merge e.safetensors

Writes image_features [n, d], text_features [m, d] and logit_scale [1] (already exponentiated), f32;
the metadata holds image_paths and texts as JSON arrays. Exit code 2: some images could not be read;
they are named on stderr and left out. With --shard the file is e.shard-2-of-4.safetensors; docs/scale-out.md
has scripts for job arrays.")]
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
    /// Embed share I of N only, I counted from 0, and put the share into the name of --out; `merge` puts them together.
    /// A share that is there already is not made again
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// With --shard or --dist: make the share again though it is there, or replace one of other work
    #[arg(long, requires = "in_shares")]
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

fn embed(arguments: Arguments) -> Result<ExitCode> {
    arguments.compute.check()?;
    if arguments.images.is_empty() && arguments.pixels.is_none() && arguments.texts.is_none() {
        bail!("nothing to embed: give --images, --pixels or --texts");
    }
    check_writable(&output(&arguments.out, arguments.shard))?;
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
        let list = List::read(&arguments)?;
        let model = arguments
            .model
            .load::<B>(arguments.compute.precision, &device)?;
        let encoder = Encoder {
            model: &model,
            normalize: !arguments.no_normalize,
        };
        if let Some(file) = &arguments.pixels {
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
        let embedded = Embedded {
            embed_dim: model.embed_dim(),
            images: images.rows,
            image_paths: images.paths,
            text_features: text_features(&encoder, &texts, &options)?.to_vec(),
            texts,
            scale: model.scale().unwrap_or(1.0),
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
            options: BTreeMap::from([
                ("backend".into(), B::name(device)),
                ("precision".into(), self.compute.precision.to_string()),
                ("normalize".into(), encoder.normalize.to_string()),
            ]),
        })
    }
}
