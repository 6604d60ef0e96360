//! Any number of rows, in parts.

use crate::encoder::Encoder;
use crate::{Arguments, Metadata, tell_truncated};
use anyhow::{Context, Result};
use burn::prelude::*;
use clip_burn::cli::{Shard, exit_code};
use clip_burn::data::strings::TableFormat;
use clip_burn::eval::Extraction;
use clip_burn::eval::parts::{self, Outcome, Settings};
use std::path::Path;
use std::process::ExitCode;

/// Refuses a folder that could not be written, before any work is done for it. It is not made yet: what is to go in may be refused.
pub fn check_folder(folder: &Path) -> Result<()> {
    let there = folder.ancestors().find(|folder| folder.exists());
    tempfile::NamedTempFile::new_in(there.unwrap_or(Path::new(".")))
        .map(drop)
        .with_context(|| {
            format!(
                "{}: --format npy writes a folder, which cannot be written here",
                folder.display()
            )
        })
}

/// Embeds the rows of this process's share of the parts.
pub fn embed<B: Backend>(arguments: &Arguments, device: &B::Device) -> Result<ExitCode> {
    let settings = Settings {
        folder: arguments.out.clone(),
        part_size: usize::try_from(arguments.write_batch_size)?,
        float: arguments.dtype.float(),
        metadata: match arguments.metadata {
            Metadata::Parquet => TableFormat::Parquet,
            Metadata::Jsonl => TableFormat::Jsonl,
        },
        share: arguments.shard.unwrap_or(Shard::WHOLE),
        overwrite: arguments.overwrite,
        options: arguments.options::<B>(device),
    };
    settings.metadata.check()?;
    let rows = arguments.input.rows()?;
    let model = arguments
        .model
        .load::<B>(arguments.compute.precision, device)?;
    let encoder = Encoder {
        model: &model,
        normalize: !arguments.no_normalize,
    };
    let options = Extraction {
        batch_size: arguments.batch_size as usize,
        progress: true,
        ..Extraction::default()
    };
    let made = parts::embed(&encoder, &rows, &settings, &options, device)?;
    Ok(tell(&arguments.out, &made))
}

/// Looks whether all parts are there.
pub fn check(folder: &Path) -> Result<ExitCode> {
    Ok(tell(folder, &parts::check(folder)?))
}

fn tell(folder: &Path, made: &Outcome) -> ExitCode {
    let there = match made.found {
        0 => String::new(),
        found => format!(", {found} of which were there already"),
    };
    eprintln!(
        "{}: {} rows in {} parts{there}",
        folder.display(),
        made.rows,
        made.parts
    );
    tell_truncated(made.truncated, made.rows);
    for reason in &made.reasons {
        eprintln!("left out: {reason}");
    }
    if made.left_out > made.reasons.len() {
        eprintln!("and more for such reasons");
    }
    if made.left_out > 0 {
        let all = made.rows + made.left_out;
        eprintln!("{} of {all} images could not be read", made.left_out);
    }
    exit_code(made.left_out)
}
