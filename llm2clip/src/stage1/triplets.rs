//! What contrastive tuning learns from: a query, a text that answers it, and one that does not.

use data::text::{LinesConfig, LinesSource};
use data::{DataError, Keyed, Place, Source};
use serde::Deserialize;
use std::path::PathBuf;

/// A query with its positive and its negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triplet {
    /// Name in messages.
    pub key: String,
    /// What the query is to find, in words; seen by the query's tokens, not pooled. May be empty.
    pub instruction: String,
    /// The query.
    pub query: String,
    /// What belongs to it.
    pub positive: String,
    /// What does not, though it looks as if.
    pub negative: String,
}

impl Keyed for Triplet {
    fn key(&self) -> &str {
        &self.key
    }
}

/// Triplets in JSON lines, `{"query": .., "positive": .., "negative": ..}`: the retrieval sets of E5 as Echo embeddings
/// collected them.
#[derive(Debug)]
pub struct JsonTriplets {
    lines: LinesSource,
    path: PathBuf,
    instructions: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    query: String,
    positive: String,
    negative: String,
}

impl JsonTriplets {
    /// Opens a file. Several instructions take turns, by the number of the sample.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or its first line is no triplet.
    pub fn open(path: PathBuf, instructions: Vec<String>) -> Result<Self, DataError> {
        let config = LinesConfig::new(path.display().to_string());
        let source = Self {
            lines: LinesSource::open(config)?,
            path,
            instructions,
        };
        source.get(0)?;
        Ok(source)
    }
}

impl Source<Triplet> for JsonTriplets {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn get(&self, index: usize) -> Result<Triplet, DataError> {
        let line = self.lines.get(index)?;
        let Line {
            query,
            positive,
            negative,
        } = serde_json::from_str(&line.text).map_err(|error| DataError::Malformed {
            path: self.path.clone(),
            place: Place::Member(line.key.clone()),
            what: format!("no triplet of `query`, `positive` and `negative`: {error}"),
        })?;
        let instruction = match self.instructions.len() {
            0 => String::new(),
            n => self.instructions[index % n].clone(),
        };
        Ok(Triplet {
            key: line.key,
            instruction,
            query,
            positive,
            negative,
        })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_take_turns_and_a_line_that_is_no_triplet_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allnli.jsonl");
        let line = |i: usize| {
            format!(r#"{{"query": "q{i}", "positive": "p{i}", "negative": "n{i}", "more": 1}}"#)
        };
        let lines = [line(0), line(1), line(2), r#"{"query": "q"}"#.into()].join("\n");
        std::fs::write(&path, lines).unwrap();
        let instructions = ["one", "two"].map(String::from).to_vec();
        let source = JsonTriplets::open(path.clone(), instructions).unwrap();
        let said: Vec<_> = (0..3).map(|i| source.get(i).unwrap().instruction).collect();
        assert_eq!(said, ["one", "two", "one"]);
        assert_eq!(source.get(2).unwrap().negative, "n2");
        let message = source.get(3).unwrap_err().to_string();
        assert!(
            message.contains("allnli.jsonl:4") && message.contains("positive"),
            "{message}"
        );
        std::fs::write(&path, "[]").unwrap();
        assert!(JsonTriplets::open(path, Vec::new()).is_err());
    }
}
