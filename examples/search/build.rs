//! Images → an index, or what has changed since it was made.

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Args;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, ModelArgs, check_writable, exit_code, image_paths};
use clip_burn::eval::extract::image_features;
use clip_burn::eval::search::{Index, Update};
use clip_burn::eval::{DualEncoder, Extraction};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `build`.
#[derive(Args)]
#[command(after_help = "Example:
  cargo run --release --example search -- build --model models/mine --images photos/ --out index.safetensors

The index holds what --images names: images that came or changed (by size or time) are embedded, those that went are taken out.
It has image_features [n, d] in unit rows, as `embed` writes them. Exit code 2: some images could not be read; they are named on
stderr and left out.")]
pub struct Build {
    #[command(flatten)]
    model: ModelArgs,
    /// Files, directories (walked recursively, sorted by path) or .txt lists of paths
    #[arg(long, num_args = 1.., required = true)]
    images: Vec<PathBuf>,
    /// The index, a safetensors file to write or to bring up to date
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Images at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
}

impl Build {
    pub fn run(self) -> Result<ExitCode> {
        self.compute.check()?;
        check_writable(&self.out)?;
        let compute = self.compute.clone();
        with_backend(compute.backend, compute.precision, self)
    }
}

impl Job for Build {
    type Out = Result<ExitCode>;

    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let paths = image_paths(&self.images)?;
        let old = match self.out.exists() {
            true => Some(Index::open(&self.out)?),
            false => None,
        };
        let update = Update::plan(&paths, old.as_ref())?;
        let model = self.model.load::<B>(self.compute.precision, &device)?;
        let made_with = super::index_model(&self.model, &model)?;
        if let Some(old) = &old {
            old.check_model(&made_with)?;
        }
        let out = self.out.display();
        let changes = update.changes();
        if let Some(old) = old.as_ref().filter(|_| changes.is_empty()) {
            println!("{out}: {} images, nothing has changed", old.len());
            return Ok(ExitCode::SUCCESS);
        }
        let options = Extraction {
            batch_size: self.batch_size as usize,
            max_bad: usize::MAX,
            progress: true,
        };
        let images = update.to_embed();
        let embedded = image_features(&model, &images, &options, &device)?;
        for bad in &embedded.bad {
            eprintln!("left out: {}", bad.reason);
        }
        let unread = embedded.bad.len();
        if unread > 0 {
            eprintln!("{unread} of {} images could not be read", images.len());
        }
        let scale = model.scale().unwrap_or(1.0);
        let len = update.write(old.as_ref(), &embedded, made_with, scale, &self.out)?;
        println!(
            "{out}: {len} images; {} came, {} changed, {} went",
            changes.came, changes.changed, changes.went
        );
        Ok(exit_code(unread))
    }
}
