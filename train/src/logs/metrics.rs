//! `metrics.jsonl`: one JSON object per entry, for plots and for comparing runs.

use crate::error::{Result, TrainError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// What an entry reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A training step.
    Train,
    /// A validation.
    Validation,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Training or validation.
    pub kind: Kind,
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Samples seen.
    pub samples: u64,
    /// Named values: `loss`, its parts, `lr`, `grad_norm`, `logit_scale`, or validation metrics. The same in
    /// every run of one recipe on one machine.
    pub values: BTreeMap<String, f64>,
    /// Named measurements that depend on the machine and the hour: `samples_per_second`, `wait_share`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub speed: BTreeMap<String, f64>,
}

impl Entry {
    /// The entry as a line for people.
    pub fn line(&self) -> String {
        let values = self.values.iter().chain(&self.speed).map(|(name, value)| {
            let size = value.abs();
            match size == 0.0 || (1e-3..1e5).contains(&size) {
                true => format!("{name} {value:.4}"),
                false => format!("{name} {value:.3e}"),
            }
        });
        let values = values.collect::<Vec<_>>().join("  ");
        let kind = if self.kind == Kind::Validation {
            "validation  "
        } else {
            ""
        };
        format!("step {}  {kind}{values}", self.step)
    }
}

/// The file while a run writes it.
pub struct MetricsFile {
    file: File,
}

impl MetricsFile {
    /// Opens the file for a run that continues after step `done`; later entries are dropped, as is a last
    /// line that was cut off.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn open(path: &Path, done: u64) -> Result<Self> {
        if path.exists() {
            let kept: String = read_metrics(path)?
                .iter()
                .filter(|entry| entry.step <= done && done > 0)
                .map(json_line)
                .collect();
            files::write(path, kept.as_bytes()).map_err(TrainError::io(path))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            file: file.map_err(TrainError::io(path))?,
        })
    }

    /// Appends an entry.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        self.file.write_all(json_line(entry).as_bytes())
    }
}

/// Reads all whole entries of a file.
///
/// # Errors
///
/// When the file cannot be read.
pub fn read_metrics(path: &Path) -> Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

fn json_line(entry: &Entry) -> String {
    let mut line = serde_json::to_string(entry).expect("plain data serialises");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: u64) -> Entry {
        let values = [
            ("loss".to_string(), 1.0 / step as f64),
            ("lr".to_string(), 5e-7),
        ];
        Entry {
            kind: Kind::Train,
            step,
            epoch: 0.5,
            samples: step * 8,
            values: values.into(),
            speed: BTreeMap::new(),
        }
    }

    #[test]
    fn a_resumed_run_drops_what_came_after_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut file = MetricsFile::open(&path, 0).unwrap();
        (1..=5).for_each(|step| file.append(&entry(step)).unwrap());
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"kind\":\"tra"); // cut off by a kill
        std::fs::write(&path, text).unwrap();
        MetricsFile::open(&path, 3)
            .unwrap()
            .append(&entry(4))
            .unwrap();
        let read = read_metrics(&path).unwrap();
        assert_eq!(read, [entry(1), entry(2), entry(3), entry(4)]);
    }

    #[test]
    fn small_numbers_are_shown_in_powers_of_ten() {
        assert_eq!(entry(2).line(), "step 2  loss 0.5000  lr 5.000e-7");
    }
}
