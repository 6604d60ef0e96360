//! A language model's vectors of captions → a store, or siblings of webdataset shards.

use anyhow::{Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::{Parser, ValueEnum};
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{Asked, ComputeArgs, DistArgs, Shard, parse_or_merge, progress};
use clip_burn::clip::Precision;
use clip_burn::data::store::{StoreType, merge};
use clip_burn::data::text::{LinesConfig, LinesSource};
use clip_burn::data::webdataset::{EmbeddingShards, ShardConfig, ShardSource};
use clip_burn::data::{CaptionField, CaptionKind, Captions, DataError, Sample, Source};
use clip_burn::llm::{Encoder, LoadOptions};
use clip_burn::llm2clip::extract::{Extractor, Progress, caption_names};
use clip_burn::llm2clip::identity;
use clip_burn::train::{DataTable, Recipe, SourceConfig};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Embed captions with a language model, once, for LLM2CLIP
#[derive(Parser)]
#[command(after_help = "Examples:
  embed_captions --llm models/LLM2CLIP-Llama-3.2-1B-Instruct-CC-Finetuned --input 'cc3m/{00000..00331}.tar' \\
    --fields shortSV_captions,longSV_captions --precision bf16 --out stores/cc3m
  embed_captions --llm runs/llm2clip_stage1/contrastive/llm --input llm2clip/recipes/stage2_scenes.toml --out stores/scenes
  embed_captions --llm models/llm --input 'cc3m/{00000..00331}.tar' --fields shortSV_captions --out stores/cc3m --shard 2/4
  embed_captions merge stores/cc3m
The names of captions are JSON fields of the shards; captions without a field are called web, rewrite and synthetic, the
second and later ones of a name rewrite.1 and so on. What an interrupted run has written is kept. Shares are
written into the same folder; docs/scale-out.md has scripts for job arrays.")]
struct Arguments {
    /// Directory of the language model
    #[arg(long)]
    llm: PathBuf,
    /// Webdataset shards (a pattern), a recipe (its [data]), or a text file with one caption per line
    #[arg(long)]
    input: String,
    /// The folder to write: the store, or the siblings of the shards
    #[arg(long)]
    out: Option<PathBuf>,
    /// Names of the captions, joined by commas [default: all that the first samples have]
    #[arg(long, value_delimiter = ',')]
    fields: Vec<String>,
    /// A store of our own, or tars beside the shards as in LLM2CLIP's release (--out is optional then)
    #[arg(long, value_enum, default_value_t = Format::Store)]
    format: Format,
    /// How a store keeps numbers [default: bf16 with --precision bf16, else f32]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Captions at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Samples in a file of a store: what is lost at most by an interruption
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    part: u32,
    /// Embed share I of N only, I counted from 0: a range of the files of the store, or of the shards. All shares name the same
    /// --out, and `merge` ends the store
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    #[command(flatten)]
    dist: DistArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Store,
    Tar,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<()> {
    let mut arguments: Arguments = match parse_or_merge() {
        Asked::Work(arguments) => arguments,
        Asked::Merge(folder) => return put_together(&folder),
    };
    let shares = arguments
        .dist
        .join(&mut arguments.shard, &mut arguments.compute)?;
    let store = arguments
        .out
        .clone()
        .filter(|_| arguments.format == Format::Store);
    shares.then(embed(arguments), || {
        store.as_deref().map_or(Ok(()), put_together)
    })
}

fn embed(arguments: Arguments) -> Result<()> {
    arguments.compute.check()?;
    if arguments.format == Format::Store && arguments.out.is_none() {
        bail!("name the folder of the store: --out DIR");
    }
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, EmbedCaptions(arguments))
}

fn put_together(folder: &Path) -> Result<()> {
    let merged = merge(folder)?;
    let info = merged.store.info();
    eprintln!(
        "{}: [{}] of {} samples, {} of them unreadable, by {} shares",
        folder.display(),
        info.fields.join(", "),
        info.samples,
        merged.unread,
        merged.shares
    );
    Ok(())
}

struct EmbedCaptions(Arguments);

impl Job for EmbedCaptions {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(arguments) = self;
        let precision = arguments.compute.precision;
        let input = Input::of(&arguments.input, &arguments.fields)?;
        let load = LoadOptions {
            precision,
            weights: precision,
        };
        let encoder = Encoder::<B>::load(&arguments.llm, None, &load, &device)?;
        let extractor = Extractor {
            identity: identity(&arguments.llm, &encoder.options)?,
            encoder,
            path: std::path::absolute(&arguments.llm)?,
            precision,
            batch: arguments.batch_size as usize,
            device,
        };
        match (arguments.format, input, arguments.out) {
            (Format::Tar, Input::Shards(config), directory) => {
                if arguments.fields.is_empty() {
                    bail!("--format tar needs --fields: the names become the members' extensions");
                }
                let siblings = EmbeddingShards {
                    directory,
                    fields: arguments.fields,
                    ..EmbeddingShards::default()
                };
                let mut last = Default::default();
                let share = arguments.shard.unwrap_or(Shard::WHOLE);
                let written =
                    extractor.into_shards(&config, &siblings, share, &mut |now| last = now)?;
                eprintln!(
                    "{} tars of {} samples; {} vectors made",
                    written.len(),
                    last.samples,
                    last.vectors
                );
            }
            (Format::Tar, ..) => {
                bail!("--format tar writes beside webdataset shards; --input is something else")
            }
            (Format::Store, input, Some(out)) => {
                let source = input.open()?;
                let fields = match arguments.fields.is_empty() {
                    true => caption_names(source.as_ref())?,
                    false => arguments.fields,
                };
                let dtype = match (arguments.dtype, precision) {
                    (Some(Dtype::F32), _) | (None, Precision::F32) => StoreType::F32,
                    (Some(Dtype::Bf16), _) | (None, Precision::Bf16) => StoreType::Bf16,
                };
                let bar = progress(source.len(), "samples");
                let mut last = Progress::default();
                let settings = (dtype, arguments.part as usize);
                let mut report = |now: Progress| {
                    bar.set_length(now.of as u64);
                    bar.set_position(now.samples as u64);
                    last = now;
                };
                let (source, report) = (source.as_ref(), &mut report);
                let what = match arguments.shard {
                    Some(share) => {
                        extractor
                            .share_into_store(share, source, &fields, settings, &out, report)?;
                        format!(
                            "share {share} of {} samples, {}",
                            source.len(),
                            last.samples
                        )
                    }
                    None => {
                        extractor.into_store(source, &fields, settings, &out, report)?;
                        format!("{} samples", source.len())
                    }
                };
                bar.finish_and_clear();
                eprintln!(
                    "{}: [{}] of {what}, {} of them unreadable; {} vectors made",
                    out.display(),
                    fields.join(", "),
                    last.unread,
                    last.vectors
                );
            }
            (Format::Store, _, None) => unreachable!("checked before"),
        }
        Ok(())
    }
}

/// What `--input` names.
enum Input {
    Shards(ShardConfig),
    Recipe(DataTable),
    Lines(String),
}

impl Input {
    fn of(input: &str, fields: &[String]) -> Result<Self> {
        if input.ends_with(".toml") {
            let mut data: DataTable = Recipe::load(input.as_ref(), &[])?.section()?;
            for source in &mut data.sources {
                if let SourceConfig::Webdataset(shards) = source {
                    shards.embeddings = None; // they are what is about to be made
                }
            }
            return Ok(Self::Recipe(data));
        }
        if input.ends_with(".txt") {
            return Ok(Self::Lines(input.into()));
        }
        if !input.contains(".tar") {
            bail!(
                "--input {input}: neither shards (.tar), nor a recipe (.toml), nor lines of text (.txt)"
            );
        }
        let named = fields.iter().filter(|field| *field != "web");
        Ok(Self::Shards(ShardConfig {
            json_fields: named
                .map(|field| CaptionField::new(field, CaptionKind::Synthetic))
                .collect(),
            text_key: fields
                .iter()
                .any(|f| f == "web")
                .then(|| "txt".into())
                .or_else(|| fields.is_empty().then(|| "txt".into())),
            require_caption: false,
            ..ShardConfig::new(input)
        }))
    }

    fn open(self) -> Result<Arc<dyn Source>> {
        Ok(match self {
            Self::Shards(config) => Arc::new(ShardSource::open(config)?),
            Self::Recipe(data) => data.open(0, 0, 1)?.0,
            Self::Lines(files) => Arc::new(Texts(LinesSource::open(LinesConfig::new(files))?)),
        })
    }
}

/// Lines as samples without an image.
struct Texts(LinesSource);

impl Source for Texts {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let line = self.0.get(index)?;
        let mut captions = Captions::default();
        captions.push(CaptionKind::Web, line.text);
        Ok(Sample {
            key: line.key,
            captions,
            ..Sample::default()
        })
    }

    fn name(&self) -> String {
        self.0.name()
    }
}
