//! Class names and prompt templates: packaged ones, those of a data set, and the user's own files.
//!
//! Precedence, from strong to weak: the user's file, the data set's own list, the packaged list under the data set's
//! name (with and without a `wds/` prefix), the packaged templates of `imagenet1k`. Rules of CLIP_benchmark's
//! `datasets/builder.py`.

mod class_name;
mod packaged;
mod templates;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

pub use class_name::ClassName;
pub use packaged::{LANGUAGES, imagenet_wnids};
pub use templates::Templates;

use self::packaged::{packaged_names_of, packaged_templates};
use self::templates::CLIPS81;
use crate::error::{EvalError, Result};
use crate::files;

/// Name of the data set whose templates serve all that have none.
const FALLBACK: &str = "imagenet1k";

/// Class names and templates of one evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// Name(s) of every class, in label order.
    pub classes: Vec<ClassName>,
    /// How they become prompts.
    pub templates: Templates,
}

/// Where prompts may come from, besides what is packaged.
#[derive(Clone, Debug, Default)]
pub struct PromptSources<'a> {
    /// The user's class names: a file.
    pub class_file: Option<&'a Path>,
    /// The user's templates: a packaged name or a file.
    pub templates: Option<&'a str>,
    /// The data set's own class names.
    pub own_classes: Option<&'a [ClassName]>,
    /// The data set's own templates.
    pub own_templates: Option<&'a Templates>,
}

impl Prompts {
    /// Finds the prompts of a data set by the rules at the top of this file.
    pub fn find(dataset: &str, language: &str, sources: &PromptSources) -> Result<Self> {
        if !LANGUAGES.contains(&language) {
            return Err(EvalError::Option {
                option: "language",
                reason: format!(
                    "`{language}` is not packaged; there are {}",
                    LANGUAGES.join(", ")
                ),
            });
        }
        let classes = match (sources.class_file, sources.own_classes) {
            (Some(path), _) => load_class_names(path, dataset)?,
            (None, Some(own)) => own.to_vec(),
            (None, None) => packaged_names_of(dataset, language).ok_or_else(|| {
                let reason =
                    format!("no class names for `{dataset}` ({language}); give them (classnames)");
                EvalError::Prompts(reason)
            })?,
        };
        let templates = match (sources.templates, sources.own_templates) {
            (Some(name), _) => Templates::load(name, dataset)?,
            (None, Some(own)) => own.clone(),
            (None, None) => by_name(packaged_templates(language), dataset, Some(FALLBACK))
                .ok_or_else(|| EvalError::Prompts(format!("no templates for `{dataset}`")))?,
        };
        templates.check()?;
        let classes: Vec<ClassName> = match sources.templates {
            Some(CLIPS81) => classes.iter().map(ClassName::canonical).collect(),
            _ => classes,
        };
        if let Some(empty) = classes
            .iter()
            .position(|c| c.all().iter().all(|n| n.trim().is_empty()))
        {
            return Err(EvalError::Prompts(format!(
                "class {empty} of `{dataset}` has no name"
            )));
        }
        Ok(Self { classes, templates })
    }
}

/// Class names from a file: a JSON list (entries may be lists of synonyms), a JSON map by data set, or one per line.
pub fn load_class_names(path: &Path, dataset: &str) -> Result<Vec<ClassName>> {
    let text = files::read_text(path)?;
    let Ok(value) = serde_json::from_str::<Value>(&text) else {
        return Ok(lines(&text).into_iter().map(ClassName::from).collect());
    };
    let list = match value {
        Value::Object(mut map) => keys(dataset).find_map(|k| map.remove(k)).ok_or_else(|| {
            EvalError::format(path, format!("no class names under the key `{dataset}`"))
        })?,
        other => other,
    };
    serde_json::from_value(list)
        .map_err(|e| EvalError::format(path, format!("expected a list of class names: {e}")))
}

/// `wds/name` is looked up as itself and as `name`.
fn keys(dataset: &str) -> impl Iterator<Item = &str> {
    let short = dataset.split_once('/').map(|(_, name)| name);
    std::iter::once(dataset).chain(short)
}

fn by_name<T>(mut map: BTreeMap<String, T>, dataset: &str, fallback: Option<&str>) -> Option<T> {
    keys(dataset)
        .chain(fallback)
        .find_map(|key| map.remove(key))
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
