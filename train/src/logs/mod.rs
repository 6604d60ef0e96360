//! Watching a run: progress bar, `log.txt`, `metrics.jsonl`, TensorBoard events.
//!
//! Every writer is fed from one [`Entry`]; a failing disk is reported once and never stops the training.

mod meter;
mod metrics;
mod progress;
pub mod report;
mod tensorboard;

pub use meter::Meter;
pub use metrics::{Entry, Kind, MetricsFile, read_metrics};
pub use progress::ProgressLine;
pub use tensorboard::EventFile;

use crate::error::{Result, TrainError};
use crate::recipe::LogConfig;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Someone who is told what happens in a run.
pub trait Listener {
    /// A sentence.
    fn note(&mut self, text: &str);

    /// Values of a training step or a validation.
    fn record(&mut self, entry: &Entry);

    /// A step is done.
    fn advance(&mut self, _step: u64) {}
}

/// All logs of one run.
pub struct Logs {
    text: File,
    metrics: MetricsFile,
    events: Option<EventFile>,
    progress: ProgressLine,
    failed: bool,
}

impl Logs {
    /// Opens the logs in `dir`, for a run of `total` steps that continues after step `done`. Entries after
    /// that step, left by a run that was cut off, are removed.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened.
    pub fn open(dir: &Path, config: &LogConfig, total: u64, done: u64) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(TrainError::io(dir))?;
        let path = dir.join("log.txt");
        let text = OpenOptions::new().create(true).append(true).open(&path);
        let events = match config.tensorboard {
            true => Some(EventFile::create(&dir.join("tensorboard"), done)?),
            false => None,
        };
        Ok(Self {
            text: text.map_err(TrainError::io(&path))?,
            metrics: MetricsFile::open(&dir.join("metrics.jsonl"), done)?,
            events,
            progress: ProgressLine::new(config.progress, total, done),
            failed: false,
        })
    }

    fn report(&mut self, written: std::io::Result<()>) {
        if let Err(error) = written
            && !std::mem::replace(&mut self.failed, true)
        {
            self.progress.print(&format!(
                "a log could not be written: {error}; training goes on"
            ));
        }
    }
}

impl Listener for Logs {
    /// Writes a sentence to the screen and to `log.txt`.
    fn note(&mut self, text: &str) {
        self.progress.print(text);
        let written = self.text.write_all(format!("{text}\n").as_bytes());
        self.report(written);
    }

    /// Records one entry everywhere.
    fn record(&mut self, entry: &Entry) {
        let line = entry.line();
        let written = self.text.write_all(format!("{line}\n").as_bytes());
        self.report(written);
        let written = self.metrics.append(entry);
        self.report(written);
        if let Some(events) = &mut self.events {
            let written = events.append(entry);
            self.report(written);
        }
        match entry.kind {
            Kind::Train => self.progress.message(&line),
            Kind::Validation => self.progress.print(&line),
        }
    }

    fn advance(&mut self, step: u64) {
        self.progress.set(step);
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.progress.finish();
    }
}
