//! A file of captions → a file of rewrites, in constant memory, interrupted as often as need be.
//!
//! Line `i` of the output is a function of line `i` of the input, the settings and `(seed, i)`. So several processes may have a
//! share of the lines each, with an output of its own; [`merge()`](fn@super::merge) puts these together.

use super::input::{Lines, scan};
use super::output::{Output, Place, find_place};
use super::prompt::{answer, one_line};
use super::record::RunRecord;
use super::settings::{Empty, Settings};
use super::writer::Writer;
use crate::error::{Error, Result};
use files::Shard;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// One run over a file.
#[derive(Debug, Clone)]
pub struct Run {
    /// One caption per line.
    pub input: PathBuf,
    /// One rewrite per line, in the same order.
    pub output: PathBuf,
    /// The share of the lines that the output has, if not all.
    pub shard: Option<Shard>,
    /// What decides a rewrite.
    pub settings: Settings,
    /// Prompts at a time.
    pub batch_size: usize,
    /// Whether to go on with an output that was begun before.
    pub resume: bool,
    /// What else must be the same when the run goes on: the model and its precision.
    pub about: RunRecord,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Lines of the output, those of earlier runs included.
    pub done: u64,
    /// Lines of the input, or of the share of them.
    pub total: u64,
    /// Lines that earlier runs wrote.
    pub resumed: u64,
    /// Tokens that this run generated.
    pub tokens: u64,
    /// Since the model was there.
    pub elapsed: Duration,
}

/// What a run did.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The last word on progress.
    pub progress: Progress,
    /// Lines whose prompt was too long, so that the end of the caption was left out.
    pub shortened: u64,
    /// Lines without a caption, for which nothing was generated.
    pub blank: u64,
    /// Lines for which the model wrote nothing.
    pub empty: u64,
}

/// Rewrites a file. All that can be wrong with the input, the output and the settings is found out before `load` is
/// called, and nothing is written before it has returned.
///
/// # Errors
///
/// Names the file and what to do; says which settings are not those that an output was begun with.
pub fn run<W: Writer>(
    run: &Run,
    load: impl FnOnce() -> Result<W>,
    report: &mut dyn FnMut(&Progress),
) -> Result<Summary> {
    let settings = &run.settings;
    settings.sampling.check()?;
    for (option, value) in [
        ("batch_size", run.batch_size),
        ("max_gen_len", settings.limits.max_gen_len),
    ] {
        if value == 0 {
            let reason = "is 0; give 1 or more".into();
            return Err(Error::Option { option, reason });
        }
    }
    let exists = run.output.exists();
    if exists && !run.resume {
        return Err(Error::OutputExists {
            path: run.output.clone(),
        });
    }
    let scan = scan(&run.input)?;
    let record = settings.record(&scan).and(&run.about);
    let record = match run.shard {
        None => record,
        Some(shard) => record.of_share(shard, run.batch_size),
    };
    let lines = lines_of(run.shard, scan.lines, run.batch_size);
    let total = (lines.end - lines.start) as u64;
    let place = if exists {
        let begun = RunRecord::read(&run.output)?.ok_or_else(|| {
            Error::format(
                &run.output,
                format!(
                    "{} is missing, so nobody knows how it was begun; name another output",
                    RunRecord::path(&run.output).display()
                ),
            )
        })?;
        record.check(&begun, &run.output)?;
        find_place(&run.output, run.batch_size as u64, total)?
    } else {
        Place { lines: 0, bytes: 0 }
    };
    let mut summary = Summary::new(total, place);
    if exists && place.lines == total {
        return Ok(summary);
    }
    let mut writer = load()?;
    settings.check(&writer)?;
    let output = if exists {
        Output::resume(&run.output, place)?
    } else {
        record.write(&run.output)?;
        Output::create(&run.output)?
    };
    let first = lines.start as u64;
    rewrite(run, first, &mut writer, output, &mut summary, report)?;
    Ok(summary)
}

/// The lines of a share: whole batches of those that one process would make, so that their rounding is the same.
pub(super) fn lines_of(shard: Option<Shard>, lines: u64, batch_size: usize) -> Range<usize> {
    shard
        .unwrap_or(Shard::WHOLE)
        .batches(lines as usize, batch_size)
}

/// Rewrites the lines from `first` on that are not done yet.
fn rewrite(
    run: &Run,
    first: u64,
    writer: &mut impl Writer,
    mut output: Output,
    summary: &mut Summary,
    report: &mut dyn FnMut(&Progress),
) -> Result<()> {
    let start = Instant::now();
    let mut input = Lines::open(&run.input)?;
    input.skip(first + summary.progress.done)?;
    report(&summary.progress);
    while summary.progress.done < summary.progress.total {
        let left = (summary.progress.total - summary.progress.done) as usize;
        let captions = input.take(run.batch_size.min(left))?;
        if captions.is_empty() {
            return Err(Error::format(
                &run.input,
                "became shorter while it was read",
            ));
        }
        let lines = batch(&run.settings, first, writer, summary, &captions)?;
        output.append(&lines)?;
        summary.progress.done += lines.len() as u64;
        summary.progress.elapsed = start.elapsed();
        report(&summary.progress);
    }
    output.sync()
}

/// The output lines of some captions.
fn batch(
    settings: &Settings,
    first: u64,
    writer: &mut impl Writer,
    summary: &mut Summary,
    captions: &[String],
) -> Result<Vec<String>> {
    let (mut prompts, mut places) = (Vec::new(), Vec::new());
    for (i, caption) in captions.iter().enumerate() {
        // A model that is asked to rewrite nothing makes something up.
        if caption.trim().is_empty() {
            summary.blank += 1;
            continue;
        }
        let line = first + summary.progress.done + i as u64;
        let (text, seed) = settings.prompt(line, caption);
        let (text, cut) = settings.fit(text, writer)?;
        summary.shortened += u64::from(cut);
        prompts.push((text, seed));
        places.push(i);
    }
    let mut lines = vec![String::new(); captions.len()];
    if prompts.is_empty() {
        return Ok(lines);
    }
    for (i, written) in places.into_iter().zip(writer.write(&prompts)?) {
        summary.progress.tokens += written.tokens as u64;
        let rewrite = answer(&written.text);
        summary.empty += u64::from(rewrite.is_empty());
        lines[i] = match settings.empty {
            Empty::Original if rewrite.is_empty() => one_line(&captions[i]),
            _ => rewrite,
        };
    }
    Ok(lines)
}

impl Summary {
    fn new(total: u64, place: Place) -> Self {
        Self {
            progress: Progress {
                done: place.lines,
                total,
                resumed: place.lines,
                tokens: 0,
                elapsed: Duration::ZERO,
            },
            shortened: 0,
            blank: 0,
            empty: 0,
        }
    }
}

#[cfg(test)]
mod tests;
