//! The lists in `assets/`.

use std::collections::BTreeMap;

// A circle on purpose: the parent looks things up here, by the rules for names that all of this folder shares.
use super::{ClassName, FALLBACK, Templates, by_name, keys};

/// Languages with packaged ImageNet class names and templates.
pub const LANGUAGES: [&str; 5] = ["en", "cn", "ar", "it", "jp"];

/// WordNet ids in label order: `imagenet1k` has 1000, `imagenet-a`, `imagenet-r` and `imagenet-o` 200 each.
pub fn imagenet_wnids(subset: &str) -> Option<Vec<String>> {
    let mut lists: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../../assets/imagenet_wnids.json"))
            .expect("packaged JSON");
    lists.remove(subset)
}

/// Packaged class names of a data set. All sets named `imagenet...` have those of ImageNet-1k; A, R
/// and O have the 200 that they share with it, in the order of their labels.
pub(super) fn packaged_names_of(dataset: &str, language: &str) -> Option<Vec<ClassName>> {
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

macro_rules! packs {
    ($language:expr, $suffix:literal, [$($name:literal),*]) => {
        match $language {
            $($name => include_str!(concat!("../../assets/", $name, $suffix)),)*
            _ => "{}",
        }
    };
}

fn packaged_class_names(language: &str) -> BTreeMap<String, Vec<ClassName>> {
    let json = packs!(language, "_classnames.json", ["en", "cn", "ar", "it", "jp"]);
    serde_json::from_str(json).expect("packaged JSON")
}

pub(super) fn packaged_templates(language: &str) -> BTreeMap<String, Templates> {
    let suffix = packs!(
        language,
        "_zeroshot_classification_templates.json",
        ["en", "cn", "ar", "it", "jp"]
    );
    serde_json::from_str(suffix).expect("packaged JSON")
}
