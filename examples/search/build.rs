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
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
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
    /// Images after which what is embedded so far is kept, in OUT.begun, for a run that goes on where this one was ended
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    save_every: u32,
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
        let mut paths = image_paths(&self.images)?;
        let mut old = match self.out.exists() {
            true => Some(Index::open(&self.out)?),
            false => None,
        };
        Update::plan(&paths, old.as_ref())?; // refuses a file that is no index before the model is loaded
        let model = self.model.load::<B>(self.compute.precision, &device)?;
        let made_with = super::index_model(&self.model, &model)?;
        if let Some(old) = &old {
            old.check_model(&made_with)?;
        }
        let out = self.out.display();
        let begun = begun(&self.out);
        let interrupted = Index::open(&begun).ok();
        let interrupted = interrupted.filter(|index| index.check_model(&made_with).is_ok());
        if let Some(index) = interrupted {
            eprintln!(
                "goes on with {} images of a run that did not end",
                index.len()
            );
            old = Some(index);
        } else if let Some(old) = &old
            && Update::plan(&paths, Some(old))?.changes().is_empty()
        {
            println!("{out}: {} images, nothing has changed", old.len());
            return Ok(ExitCode::SUCCESS);
        }

        let options = Extraction {
            batch_size: self.batch_size as usize,
            max_bad: usize::MAX,
            progress: true,
            ..Extraction::default()
        };
        let scale = model.scale().unwrap_or(1.0);
        let (total, mut unread) = (paths.len(), 0);
        let mut update = Update::plan(&paths, old.as_ref())?;
        let changes = update.changes();
        let len = loop {
            // A share of what is there: however many images there are, what is written is a few times the index.
            let there = old.as_ref().map_or(0, Index::len);
            let part = update.first((self.save_every as usize).max(there / 4));
            let whole = part.is_none();
            let part = part.unwrap_or(update);
            let images = part.to_embed();
            let embedded = image_features(&model, &images, &options, &device)?;
            for bad in &embedded.bad {
                eprintln!("left out: {}", bad.reason);
            }
            unread += embedded.bad.len();
            let target = if whole { &self.out } else { &begun };
            let len = part.write(old.as_ref(), &embedded, made_with.clone(), scale, target)?;
            if whole {
                break len;
            }
            let bad = embedded.bad.iter().map(|bad| images[bad.index].file());
            let bad: BTreeSet<_> = bad.collect();
            paths.retain(|path| !bad.contains(path.as_path()));
            eprintln!("{len} of {total} images so far");
            old = Some(Index::open(&begun)?);
            update = Update::plan(&paths, old.as_ref())?;
        };
        let _ = std::fs::remove_file(&begun); // of an older run there may be none
        if unread > 0 {
            eprintln!("{unread} of {total} images could not be read");
        }
        println!(
            "{out}: {len} images; {} came, {} changed, {} went",
            changes.came, changes.changed, changes.went
        );
        Ok(exit_code(unread))
    }
}

/// What a long run has embedded so far, an index of its own beside the one that it will be.
fn begun(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".begun");
    name.into()
}
