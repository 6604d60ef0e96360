//! Sentences that make prompts of class names.

use std::collections::BTreeMap;
use std::path::Path;

use clip::tokenizer::Clean;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::packaged::packaged_templates;
use super::{ClassName, FALLBACK, keys, lines};
use crate::error::{EvalError, Result};
use crate::files;

/// Indices, among the 80 templates of OpenAI, of the 7 that OpenAI's notebook and LaCLIP use.
const LACLIP7: [usize; 7] = [73, 7, 44, 69, 35, 67, 64];

/// Name of the templates of CLIPS: the 80 and the bare name, in lower case without punctuation. Class names are to be
/// treated alike, see [`ClassName::canonical`].
pub(super) const CLIPS81: &str = "clips81";

/// How class names become prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Templates {
    /// Sentences with a place for the name, `{c}` or `{}`.
    Shared(Vec<String>),
    /// Finished prompts by class name (CuPL, Pratt et al., 2022).
    PerClass(BTreeMap<String, Vec<String>>),
}

impl Templates {
    /// One of the packaged sets: `openai80`, `laclip7`, `clips81` or `simple` ("a photo of a {c}.").
    pub fn named(name: &str) -> Option<Self> {
        let eighty = || {
            packaged_templates("en")
                .remove(FALLBACK)
                .map(Self::into_list)
                .unwrap_or_default()
        };
        match name {
            "openai80" => Some(Self::Shared(eighty())),
            "laclip7" => {
                let eighty = eighty();
                Some(Self::Shared(
                    LACLIP7.iter().map(|&i| eighty[i].clone()).collect(),
                ))
            }
            CLIPS81 => {
                let bare = std::iter::once("{c}".to_owned());
                let templates = eighty().into_iter().chain(bare);
                Some(Self::Shared(templates.map(|t| canonical(&t)).collect()))
            }
            "simple" => Some(Self::Shared(vec!["a photo of a {c}.".into()])),
            _ => None,
        }
    }

    /// The name of these templates, if they are a packaged set.
    pub fn name(&self) -> Option<&'static str> {
        let names = ["openai80", "laclip7", CLIPS81, "simple"];
        names
            .into_iter()
            .find(|name| Self::named(name).as_ref() == Some(self))
    }

    /// A packaged set by name, else a file: a JSON list, a JSON map by class name or by data set, or one template per
    /// line.
    pub fn load(name_or_path: &str, dataset: &str) -> Result<Self> {
        if let Some(templates) = Self::named(name_or_path) {
            return Ok(templates);
        }
        let path = Path::new(name_or_path);
        if !path.exists() {
            let reason = format!(
                "`{name_or_path}` is no file and none of openai80, laclip7, clips81, simple"
            );
            return Err(EvalError::Prompts(reason));
        }
        let text = files::read_text(path)?;
        let templates = match serde_json::from_str::<Value>(&text) {
            Ok(value) => templates_from_json(path, value, dataset)?,
            Err(_) => Self::Shared(lines(&text)),
        };
        templates.check()?;
        Ok(templates)
    }

    pub(super) fn into_list(self) -> Vec<String> {
        match self {
            Self::Shared(list) => list,
            Self::PerClass(_) => Vec::new(),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self::Shared(list) = self else {
            return Ok(());
        };
        if list.is_empty() {
            return Err(EvalError::Prompts("the list of templates is empty".into()));
        }
        match list
            .iter()
            .find(|t| !t.contains("{c}") && !t.contains("{}"))
        {
            Some(bad) => Err(EvalError::Prompts(format!(
                "template `{bad}` has no place for the class name; write {{c}} or {{}}"
            ))),
            None => Ok(()),
        }
    }

    /// All prompts of a class: every template with every synonym.
    pub fn prompts(&self, class: &ClassName) -> Result<Vec<String>> {
        match self {
            Self::Shared(list) => Ok(list
                .iter()
                .flat_map(|t| {
                    class
                        .all()
                        .iter()
                        .map(move |n| t.replace("{c}", n).replace("{}", n))
                })
                .collect()),
            Self::PerClass(map) => {
                let found: Vec<String> = class
                    .all()
                    .iter()
                    .filter_map(|n| map.get(n))
                    .flatten()
                    .cloned()
                    .collect();
                if found.is_empty() {
                    let reason = format!("no prompts for the class `{}`", class.main());
                    return Err(EvalError::Prompts(reason));
                }
                Ok(found)
            }
        }
    }
}

/// Lower case and without punctuation, but for the place of the name.
fn canonical(template: &str) -> String {
    const NAME: &str = "classname";
    let text = template.replace("{c}", NAME);
    Clean::Canonicalize.apply(&text).replace(NAME, "{c}")
}

fn templates_from_json(path: &Path, value: Value, dataset: &str) -> Result<Templates> {
    let value = match value {
        // Keyed by data set: the values are lists or maps; keyed by class: the values are lists of prompts.
        Value::Object(mut map) => match keys(dataset).chain([FALLBACK]).find_map(|k| map.remove(k))
        {
            Some(of_dataset) => of_dataset,
            None => Value::Object(map),
        },
        other => other,
    };
    serde_json::from_value(value).map_err(|_| {
        EvalError::format(
            path,
            "expected a list of templates or a map from class name to a list of prompts",
        )
    })
}
