//! What differs between two recipes.

use super::Recipe;
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

impl Recipe {
    /// What differs from `other` in a way that changes the run: where it is written, how often it is logged
    /// and how many threads feed it do not.
    pub fn differences(&self, other: &Recipe) -> Vec<String> {
        let (before, after) = (self.flat(), other.flat());
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let show = |value: Option<&String>| value.cloned().unwrap_or_else(|| "absent".into());
        keys.into_iter()
            .filter(|key| !is_incidental(key) && before.get(*key) != after.get(*key))
            .map(|key| {
                format!(
                    "{key}: {} → {}",
                    show(before.get(key)),
                    show(after.get(key))
                )
            })
            .collect()
    }

    fn flat(&self) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        if let Ok(Value::Table(table)) = Value::try_from(self) {
            flatten("", &table, &mut flat);
        }
        flat
    }
}

fn is_incidental(key: &str) -> bool {
    [
        "run.out",
        "run.local_loss",
        "run.shard_optimizer",
        "run.max_skipped",
        "run.check_every",
        "data.loader.max_bad",
    ]
    .contains(&key)
        || ["checkpoint.", "log.", "validation."]
            .iter()
            .any(|table| key.starts_with(table))
        || ["threads", "workers", "prefetch", "ahead"]
            .iter()
            .any(|name| key.ends_with(name))
}

fn flatten(prefix: &str, table: &Table, into: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(table) => flatten(&key, table, into),
            Value::Array(list) if list.iter().all(Value::is_table) && !list.is_empty() => {
                let numbered = list.iter().cloned().enumerate();
                let numbered = numbered.map(|(place, entry)| (place.to_string(), entry));
                flatten(&key, &numbered.collect(), into);
            }
            value => {
                into.insert(key, value.to_string());
            }
        }
    }
}
