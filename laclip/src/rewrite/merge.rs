//! Outputs of shares → the output of the whole.

use super::record::RunRecord;
use crate::error::{Error, Result};
use files::Shard;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What was put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Number of shares.
    pub shares: usize,
    /// Lines.
    pub lines: u64,
}

/// Puts together the outputs of shares that lie beside `output` ([`Shard::path`]). What is written, the record of the run
/// too, is what a single run would have written.
///
/// # Errors
///
/// Names the shares that are missing, there twice or not finished, those that were made of another input or with other
/// settings, and an output that exists.
pub fn merge(output: &Path) -> Result<Merged> {
    if output.exists() {
        let problem =
            "exists already and is not overwritten; move it away to put the shares together again";
        return Err(Error::format(output, problem));
    }
    let mut found = Vec::new();
    for path in Shard::files(output).map_err(Error::io(output))? {
        let record = RunRecord::read(&path)?.unwrap_or_default();
        let (shard, lines) = record.share().ok_or_else(|| {
            let record = RunRecord::path(&path);
            let problem = format!("{} does not say which share it is", record.display());
            Error::format(&path, problem)
        })?;
        found.push((shard, path, (lines, record.without_share())));
    }
    let shares = Shard::complete(output, found)
        .map_err(|what| Error::format(output, format!("cannot be put together: {what}")))?;
    let (first_path, (_, first)) = &shares[0];
    let mut merged = Merged {
        shares: shares.len(),
        lines: 0,
    };
    for (path, (lines, record)) in &shares {
        let differences = record.differences(first);
        if !differences.is_empty() {
            let problem = format!(
                "does not go together with {}:\n{}",
                first_path.display(),
                differences.join("\n")
            );
            return Err(Error::format(path, problem));
        }
        let there = count_lines(path)?;
        if there != *lines {
            let problem =
                format!("{there} of its {lines} lines are there; finish it with --resume");
            return Err(Error::format(path, problem));
        }
        merged.lines += lines;
    }
    first.clone().of_whole().write(output)?;
    let written = files::write_by(output, |file| {
        for (path, _) in &shares {
            std::io::copy(&mut File::open(path)?, file)?;
        }
        Ok(())
    });
    written.map_err(Error::io(output))?;
    Ok(merged)
}

/// Whole lines; a torn one at the end is none.
fn count_lines(path: &Path) -> Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::io(path))?);
    let mut lines = 0;
    loop {
        let bytes = reader.fill_buf().map_err(Error::io(path))?;
        if bytes.is_empty() {
            return Ok(lines);
        }
        lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = bytes.len();
        reader.consume(read);
    }
}
