//! Class names and prompt templates: packaged ones, those of a data set, and the user's own files.
//!
//! Precedence, from strong to weak: the user's file, the data set's own list, the packaged list under the data set's
//! name (with and without a `wds/` prefix), the packaged templates of `imagenet1k`. Rules of CLIP_benchmark's
//! `datasets/builder.py`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{EvalError, Result};
use crate::files;

/// Languages with packaged ImageNet class names and templates.
pub const LANGUAGES: [&str; 5] = ["en", "cn", "ar", "it", "jp"];

/// Indices, among the 80 templates of OpenAI, of the 7 that OpenAI's notebook and LaCLIP use.
const LACLIP7: [usize; 7] = [73, 7, 44, 69, 35, 67, 64];

/// Name of the data set whose templates serve all that have none.
const FALLBACK: &str = "imagenet1k";

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
}

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
    /// One of the packaged sets: `openai80`, `laclip7` or `simple` ("a photo of a {c}.").
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
            "simple" => Some(Self::Shared(vec!["a photo of a {c}.".into()])),
            _ => None,
        }
    }

    /// A packaged set by name, else a file: a JSON list, a JSON map by class name or by data set, or one template per
    /// line.
    pub fn load(name_or_path: &str, dataset: &str) -> Result<Self> {
        if let Some(templates) = Self::named(name_or_path) {
            return Ok(templates);
        }
        let path = Path::new(name_or_path);
        if !path.exists() {
            let reason =
                format!("`{name_or_path}` is no file and none of openai80, laclip7, simple");
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

    fn into_list(self) -> Vec<String> {
        match self {
            Self::Shared(list) => list,
            Self::PerClass(_) => Vec::new(),
        }
    }

    fn check(&self) -> Result<()> {
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
                option: "--language",
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
                    format!("no class names for `{dataset}` ({language}); give --classnames");
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

/// WordNet ids in label order: `imagenet1k` has 1000, `imagenet-a`, `imagenet-r` and `imagenet-o` 200 each.
pub fn imagenet_wnids(subset: &str) -> Option<Vec<String>> {
    let mut lists: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../assets/imagenet_wnids.json")).expect("packaged JSON");
    lists.remove(subset)
}

/// Packaged class names of a data set. All sets named `imagenet...` have those of ImageNet-1k; A, R
/// and O have the 200 that they share with it, in the order of their labels.
fn packaged_names_of(dataset: &str, language: &str) -> Option<Vec<ClassName>> {
    let short = keys(dataset).last().unwrap_or(dataset);
    let fallback = short.starts_with("imagenet").then_some(FALLBACK);
    let names = by_name(packaged_class_names(language), dataset, fallback)?;
    let Some(subset) = imagenet_wnids(short) else {
        return Some(names);
    };
    let all = imagenet_wnids(FALLBACK)?;
    let kept = all
        .iter()
        .zip(names)
        .filter(|(wnid, _)| subset.binary_search(wnid).is_ok());
    Some(kept.map(|(_, name)| name).collect())
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

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

macro_rules! packs {
    ($language:expr, $suffix:literal, [$($name:literal),*]) => {
        match $language {
            $($name => include_str!(concat!("../assets/", $name, $suffix)),)*
            _ => "{}",
        }
    };
}

fn packaged_class_names(language: &str) -> BTreeMap<String, Vec<ClassName>> {
    let json = packs!(language, "_classnames.json", ["en", "cn", "ar", "it", "jp"]);
    serde_json::from_str(json).expect("packaged JSON")
}

fn packaged_templates(language: &str) -> BTreeMap<String, Templates> {
    let suffix = packs!(
        language,
        "_zeroshot_classification_templates.json",
        ["en", "cn", "ar", "it", "jp"]
    );
    serde_json::from_str(suffix).expect("packaged JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn sha256(lines: impl Iterator<Item = String>) -> String {
        let text = lines.collect::<Vec<_>>().join("\n");
        Sha256::digest(text)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    #[test]
    fn packaged_imagenet_names_and_templates_are_the_published_ones() {
        let names = packaged_names_of(FALLBACK, "en").unwrap();
        assert_eq!(
            sha256(names.iter().map(|c| c.main().to_owned())),
            "571ae1c583b4be7da87519494c52bf405a46af05d5815627c7a0dee997068b60"
        );
        assert_eq!(
            (names[657].main(), names[836].main()),
            (names[744].main(), names[837].main())
        );
        let eighty = Templates::named("openai80").unwrap().into_list();
        assert_eq!(
            sha256(eighty.iter().cloned()),
            "c078f4d4ced9e360a3050ace0c5abd7bed09693bceb3ed0c7a39aba61a668c5c"
        );
        assert_eq!(
            sha256(eighty.iter().map(|t| t.replace("{c}", "{}"))),
            "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"
        );
    }

    #[test]
    fn the_seven_templates_are_those_of_laclip() {
        let seven = Templates::named("laclip7")
            .unwrap()
            .prompts(&"cat".into())
            .unwrap();
        assert_eq!(
            seven,
            [
                "itap of a cat.",
                "a bad photo of the cat.",
                "a origami cat.",
                "a photo of the large cat.",
                "a cat in a video game.",
                "art of the cat.",
                "a photo of the small cat.",
            ]
        );
    }

    #[test]
    fn every_language_has_a_thousand_names_and_imagenet_subsets_have_their_size() {
        for language in LANGUAGES {
            assert_eq!(
                packaged_names_of(FALLBACK, language).unwrap().len(),
                1000,
                "{language}"
            );
        }
        let all = imagenet_wnids("imagenet1k").unwrap();
        assert!(all.len() == 1000 && all.is_sorted());
        for subset in ["imagenet-a", "imagenet-r", "imagenet-o"] {
            let wnids = imagenet_wnids(subset).unwrap();
            assert!(wnids.len() == 200 && wnids.iter().all(|w| all.contains(w)));
        }
    }

    #[test]
    fn sets_with_imagenets_classes_have_its_names_in_every_language() {
        let names = |dataset, language| packaged_names_of(dataset, language).unwrap();
        assert_eq!(names("imagenet_sketch", "en"), names("imagenet1k", "en"));
        assert_eq!(names("imagenetv2", "it").len(), 1000);
        let a = names("imagenet-a", "en");
        assert_eq!(
            (a.len(), a[0].main(), a[199].main()),
            (200, "stingray", "acorn")
        );
        assert_eq!(names("wds/imagenet-r", "jp").len(), 200);
        assert_eq!(packaged_names_of("unknown", "en"), None);
    }

    #[test]
    fn lookup_goes_from_the_users_file_to_the_data_set_to_the_package() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names.json");
        std::fs::write(&path, r#"{"mine": [["cat", "kitten"], "dog"]}"#).unwrap();
        let own = [ClassName::from("x")];
        let sources = PromptSources {
            own_classes: Some(&own),
            ..Default::default()
        };
        let found = Prompts::find("wds/mnist", "en", &sources).unwrap();
        assert_eq!(found.classes[0].main(), "x");
        assert_eq!(
            found.templates.prompts(&"3".into()).unwrap(),
            [r#"a photo of the number: "3"."#]
        );
        let sources = PromptSources {
            class_file: Some(&path),
            ..sources
        };
        let found = Prompts::find("wds/mine", "en", &sources).unwrap();
        assert_eq!(found.classes[0].all(), ["cat", "kitten"]);
        // No templates of its own: those of ImageNet, times two synonyms.
        assert_eq!(
            found.templates.prompts(&found.classes[0]).unwrap().len(),
            160
        );
        let error = Prompts::find("unknown", "en", &PromptSources::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("--classnames"), "{error}");
        assert!(Prompts::find("imagenet1k", "zh", &PromptSources::default()).is_err());
    }

    #[test]
    fn template_files_may_be_lines_lists_or_prompts_by_class() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("templates");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Templates::load(path.to_str().unwrap(), "mine")
        };
        let cat = ClassName::from("cat");
        for text in [
            "a {}.\n\nthe {c}.\n",
            r#"["a {}.", "the {c}."]"#,
            r#"{"mine": ["a {c}.", "the {c}."]}"#,
        ] {
            assert_eq!(
                load(text).unwrap().prompts(&cat).unwrap(),
                ["a cat.", "the cat."],
                "{text}"
            );
        }
        let by_class = load(r#"{"cat": ["it purrs", "it meows"]}"#).unwrap();
        assert_eq!(by_class.prompts(&cat).unwrap(), ["it purrs", "it meows"]);
        assert!(by_class.prompts(&"dog".into()).is_err());
        assert!(
            load("no place for a name")
                .unwrap_err()
                .to_string()
                .contains("{c}")
        );
    }
}
