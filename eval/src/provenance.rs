//! What is needed to repeat a run, and to tell it from others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::identity::Parts;
use crate::prompts::{Prompts, Templates};

/// How a result came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// Version of this crate.
    pub version: String,
    /// The model, or the file of stored embeddings, as it was asked for.
    pub model: String,
    /// What the model is, see [`identity`](crate::identity::identity); empty if that is not known.
    pub identity: String,
    /// What computed.
    pub backend: String,
    /// The precision of the towers.
    pub precision: String,
    /// Seed of random weights and of random choices.
    pub seed: Option<u64>,
    /// What else was asked for that changes the result, option by option, where it is not the default.
    pub options: BTreeMap<String, String>,
}

impl Provenance {
    /// That of a model by this version of the crate.
    pub fn new(model: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            model: model.into(),
            identity: identity.into(),
            ..Self::default()
        }
    }

    /// The options in a few words, for tables.
    pub fn label(&self) -> String {
        let words = self
            .options
            .iter()
            .map(|(name, value)| format!("{name} {value}"));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Which prompts a classifier was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptsUsed {
    /// Name of the templates, if they are packaged ones.
    pub name: Option<String>,
    /// Templates, or prompts of the first class where classes have their own.
    pub templates: usize,
    /// Prompts of all classes.
    pub prompts: usize,
    /// The first prompt.
    pub example: String,
    /// A digest of all prompts, class by class.
    pub digest: String,
}

impl PromptsUsed {
    /// Describes prompts.
    ///
    /// # Errors
    ///
    /// When a class has none.
    pub fn of(prompts: &Prompts) -> Result<Self> {
        let mut hash = Parts(Sha256::new());
        let (mut example, mut first, mut count) = (String::new(), 0, 0);
        for class in &prompts.classes {
            let of_class = prompts.templates.prompts(class)?;
            if count == 0 {
                first = of_class.len();
                example = of_class.first().cloned().unwrap_or_default();
            }
            count += of_class.len();
            hash.add(&(of_class.len() as u64).to_le_bytes());
            of_class.iter().for_each(|text| hash.add(text.as_bytes()));
        }
        Ok(Self {
            name: prompts.templates.name().map(str::to_owned),
            templates: match &prompts.templates {
                Templates::Shared(list) => list.len(),
                Templates::PerClass(_) => first,
            },
            prompts: count,
            example,
            digest: hash.finish(),
        })
    }

    /// A few words for tables.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!(
                "{} templates #{}",
                self.templates,
                self.digest.get(..6).unwrap_or("")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::ClassName;

    #[test]
    fn prompts_are_known_by_name_and_by_all_their_words() {
        let prompts = |templates: Templates, classes: &[&str]| Prompts {
            classes: classes.iter().map(|name| ClassName::from(*name)).collect(),
            templates,
        };
        let simple = || Templates::named("simple").unwrap();
        let used = PromptsUsed::of(&prompts(simple(), &["cat", "dog"])).unwrap();
        assert_eq!(used.name.as_deref(), Some("simple"));
        assert_eq!((used.templates, used.prompts), (1, 2));
        assert_eq!(used.example, "a photo of a cat.");
        assert_eq!(used.label(), "simple");
        let other = PromptsUsed::of(&prompts(simple(), &["cat", "cow"])).unwrap();
        assert_ne!(used.digest, other.digest);
        let own = Templates::Shared(vec!["the {c}".into(), "{}".into()]);
        let own = PromptsUsed::of(&prompts(own, &["cat"])).unwrap();
        assert!(own.label().starts_with("2 templates #"), "{}", own.label());
    }
}
