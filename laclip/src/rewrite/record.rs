//! What a run was begun with, kept beside its output.

use super::stream::lines_of;
use crate::error::{Error, Result};
use clip::checkpoint::write_whole;
use files::Shard;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Names of settings that say which lines a share has.
pub(crate) const INPUT_LINES: &str = "input_lines";
const SHARD: &str = "shard";
const BATCH_SIZE: &str = "batch_size";

/// Settings by name. An output goes on only with the settings that it was begun with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunRecord(Map<String, Value>);

impl RunRecord {
    /// Adds a setting.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// All settings of both.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.0.clone());
        self
    }

    /// The record of a share. The size of the batches is part of it: it decides which lines the share has.
    pub(crate) fn of_share(self, shard: Shard, batch_size: usize) -> Self {
        self.with(SHARD, shard.to_string())
            .with(BATCH_SIZE, batch_size)
    }

    /// The share that an output has and the number of its lines, if it is that of a share.
    pub(crate) fn share(&self) -> Option<(Shard, u64)> {
        let number = |name: &str| self.0.get(name)?.as_u64();
        let shard: Shard = self.0.get(SHARD)?.as_str()?.parse().ok()?;
        let batch_size = number(BATCH_SIZE).filter(|size| *size > 0)?;
        let lines = lines_of(Some(shard), number(INPUT_LINES)?, batch_size as usize);
        Some((shard, lines.len() as u64))
    }

    /// What all shares have in common.
    pub(crate) fn without_share(mut self) -> Self {
        self.0.shift_remove(SHARD); // `remove` would change the order of the others
        self
    }

    /// The record that one process would have written.
    pub(crate) fn of_whole(self) -> Self {
        let mut whole = self.without_share();
        whole.0.shift_remove(BATCH_SIZE);
        whole
    }

    /// `OUTPUT.run.json`.
    pub fn path(output: &Path) -> PathBuf {
        let mut path = output.as_os_str().to_owned();
        path.push(".run.json");
        path.into()
    }

    pub(crate) fn write(&self, output: &Path) -> Result<()> {
        let path = Self::path(output);
        let text = format!("{:#}\n", Value::Object(self.0.clone()));
        write_whole(&path, text.as_bytes()).map_err(|error| match error {
            clip::Error::Io { path, source } => Error::Io { path, source },
            other => Error::format(&path, other.to_string()),
        })
    }

    pub(crate) fn read(output: &Path) -> Result<Option<Self>> {
        let path = Self::path(output);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let record = serde_json::from_str(&text)
            .map_err(|error| Error::format(&path, format!("not the record of a run: {error}")))?;
        Ok(Some(Self(record)))
    }

    /// What differs from another record, one setting each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut names: Vec<&String> = other.0.keys().chain(self.0.keys()).collect();
        names.sort();
        names.dedup();
        let say = |value: Option<&Value>| value.map_or("unset".to_string(), Value::to_string);
        names
            .into_iter()
            .map(|name| (name, self.0.get(name), other.0.get(name)))
            .filter(|(_, now, then)| now != then)
            .map(|(name, now, then)| format!("  {name}: was {}, is {}", say(then), say(now)))
            .collect()
    }

    /// Refuses to go on with an output that was begun otherwise.
    pub(crate) fn check(&self, begun: &Self, output: &Path) -> Result<()> {
        let differences = self.differences(begun);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::OtherRun {
            path: output.into(),
            differences: differences.join("\n"),
        })
    }
}
