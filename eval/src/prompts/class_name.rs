//! The names of one class.

use clip::tokenizer::Clean;
use serde::{Deserialize, Serialize};

/// The names of one class; more than one are synonyms whose prompts are averaged together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct ClassName(Vec<String>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for ClassName {
    fn from(names: OneOrMany) -> Self {
        match names {
            OneOrMany::One(name) => Self(vec![name]),
            OneOrMany::Many(names) => Self(names),
        }
    }
}

impl From<ClassName> for OneOrMany {
    fn from(mut class: ClassName) -> Self {
        match class.0.len() {
            1 => Self::One(class.0.remove(0)),
            _ => Self::Many(class.0),
        }
    }
}

impl<S: Into<String>> From<S> for ClassName {
    fn from(name: S) -> Self {
        Self(vec![name.into()])
    }
}

impl ClassName {
    /// The name to print.
    pub fn main(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// All names.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// As big_vision, and with it CLIPS, treats a name: parts between commas are synonyms; lower case, `_` as a space,
    /// no punctuation.
    pub fn canonical(&self) -> Self {
        let parts = self.0.iter().flat_map(|name| name.split(','));
        let clean = parts.map(|part| Clean::Canonicalize.apply(part).into_owned());
        Self(clean.filter(|part| !part.is_empty()).collect())
    }
}
