//! What a run was begun with, kept beside its output.

use crate::error::{Error, Result};
use clip::checkpoint::write_whole;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

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

    /// Refuses to go on with an output that was begun otherwise.
    pub(crate) fn check(&self, begun: &Self, output: &Path) -> Result<()> {
        let mut names: Vec<&String> = begun.0.keys().chain(self.0.keys()).collect();
        names.sort();
        names.dedup();
        let say = |value: Option<&Value>| value.map_or("unset".to_string(), Value::to_string);
        let differences: Vec<String> = names
            .into_iter()
            .map(|name| (name, self.0.get(name), begun.0.get(name)))
            .filter(|(_, now, then)| now != then)
            .map(|(name, now, then)| format!("  {name}: was {}, is {}", say(then), say(now)))
            .collect();
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::OtherRun {
            path: output.into(),
            differences: differences.join("\n"),
        })
    }
}
