//! Pairs of an original and its rewrite, from which the examples of a prompt are drawn.
//!
//! The pools of the four styles are our own texts in the form of the paper's: what was drawn there from data sets
//! and rewritten by ChatGPT, Bard or people, is written here anew.

use crate::error::{Error, Result};
use rand::Rng;
use rand::seq::index::sample;
use serde::Deserialize;
use std::path::Path;

/// Examples in a prompt.
pub const EXAMPLES: usize = 3;

/// Between an original and its rewrite.
pub(crate) const ARROW: &str = "=>";

/// The built-in styles.
pub const STYLES: [&str; 4] = ["chatgpt", "bard", "coco", "human"];

/// An original and how it was said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example<'a> {
    /// The original.
    pub source: &'a str,
    /// The rewrite.
    pub target: &'a str,
}

/// The examples of one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// What the file calls it.
    pub name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Each with its direction.
    Pairs(Vec<Pair>),
    /// Captions of one image each; any two of a group make a pair.
    Groups(Vec<Vec<String>>),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    source: String,
    target: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    pairs: Option<Vec<Pair>>,
    groups: Option<Vec<Vec<String>>>,
}

impl Pool {
    /// A built-in style by its name (`mscoco` is `coco`), or a file by its path.
    ///
    /// # Errors
    ///
    /// Names the file and what in it cannot be an example; lists the styles if there is no such file.
    pub fn open(mode: &str) -> Result<Self> {
        let json = match mode {
            "chatgpt" => include_str!("../../assets/chatgpt.json"),
            "bard" => include_str!("../../assets/bard.json"),
            "coco" | "mscoco" => include_str!("../../assets/coco.json"),
            "human" => include_str!("../../assets/human.json"),
            file => return Self::read(Path::new(file)),
        };
        Self::parse(json).map_err(|problem| Error::format(Path::new(mode), problem))
    }

    fn read(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::Options(format!(
                "`{}` is neither a style ({}) nor a file of examples",
                path.display(),
                STYLES.join(", ")
            )));
        }
        let json = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&json).map_err(|problem| Error::format(path, problem))
    }

    /// Reads `{"name": .., "pairs": [{"source": .., "target": ..}, ..]}` or
    /// `{"name": .., "groups": [[caption, ..], ..]}`.
    fn parse(json: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(json).map_err(|error| {
            format!(
                "not a file of examples ({error}); expected \
                 {{\"name\": \"..\", \"pairs\": [{{\"source\": \"..\", \"target\": \"..\"}}, ..]}}"
            )
        })?;
        let kind = match (file.pairs, file.groups) {
            (Some(pairs), None) => Kind::Pairs(pairs),
            (None, Some(groups)) => Kind::Groups(groups),
            _ => return Err("give either `pairs` or `groups`".into()),
        };
        let pool = Self {
            name: file.name,
            kind,
        };
        pool.check()?;
        Ok(pool)
    }

    fn check(&self) -> Result<(), String> {
        if self.len() < EXAMPLES {
            return Err(format!(
                "{} examples, but every prompt needs {EXAMPLES} different ones",
                self.len()
            ));
        }
        if let Kind::Groups(groups) = &self.kind
            && let Some(i) = groups.iter().position(|group| group.len() < 2)
        {
            return Err(format!("group {i} has fewer than two captions"));
        }
        for (place, text) in self.texts() {
            let problem = if text.trim().is_empty() {
                "is empty"
            } else if text.contains(['\n', '\r']) {
                "has a line break, but a prompt gives each example one line"
            } else if text.contains(ARROW) {
                "contains `=>`, which separates an original from its rewrite"
            } else {
                continue;
            };
            return Err(format!("{place} {problem}"));
        }
        Ok(())
    }

    /// Every text with where it stands.
    fn texts(&self) -> Vec<(String, &str)> {
        match &self.kind {
            Kind::Pairs(pairs) => pairs
                .iter()
                .enumerate()
                .flat_map(|(i, pair)| {
                    [
                        (format!("the source of pair {i}"), pair.source.as_str()),
                        (format!("the target of pair {i}"), pair.target.as_str()),
                    ]
                })
                .collect(),
            Kind::Groups(groups) => groups
                .iter()
                .enumerate()
                .flat_map(|(i, group)| {
                    let place = move |j| format!("caption {j} of group {i}");
                    group
                        .iter()
                        .enumerate()
                        .map(move |(j, text)| (place(j), text.as_str()))
                })
                .collect(),
        }
    }

    /// Number of pairs or groups.
    pub fn len(&self) -> usize {
        match &self.kind {
            Kind::Pairs(pairs) => pairs.len(),
            Kind::Groups(groups) => groups.len(),
        }
    }

    /// Whether there is nothing to draw; no pool that was opened is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [`EXAMPLES`] different pairs in random order. Of a group two different captions are drawn.
    pub fn draw(&self, rng: &mut impl Rng) -> Vec<Example<'_>> {
        let chosen = sample(rng, self.len(), EXAMPLES);
        chosen.iter().map(|i| self.example(i, rng)).collect()
    }

    fn example(&self, i: usize, rng: &mut impl Rng) -> Example<'_> {
        match &self.kind {
            Kind::Pairs(pairs) => Example {
                source: &pairs[i].source,
                target: &pairs[i].target,
            },
            Kind::Groups(groups) => {
                let two = sample(rng, groups[i].len(), 2);
                Example {
                    source: &groups[i][two.index(0)],
                    target: &groups[i][two.index(1)],
                }
            }
        }
    }

    /// The longest examples that [`Self::draw`] may give, by bytes.
    pub fn longest(&self) -> Vec<Example<'_>> {
        let mut examples: Vec<Example> = match &self.kind {
            Kind::Pairs(pairs) => pairs
                .iter()
                .map(|Pair { source, target }| Example { source, target })
                .collect(),
            Kind::Groups(groups) => groups
                .iter()
                .map(|group| {
                    let mut sorted: Vec<&String> = group.iter().collect();
                    sorted.sort_by_key(|text| std::cmp::Reverse(text.len()));
                    Example {
                        source: sorted[0],
                        target: sorted[1],
                    }
                })
                .collect(),
        };
        examples.sort_by_key(|e| std::cmp::Reverse(e.source.len() + e.target.len()));
        examples.truncate(EXAMPLES);
        examples
    }

    /// The same for the same examples, whatever the file is called.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        for (place, text) in self.texts() {
            hash.update(place);
            hash.update([0]);
            hash.update(text);
            hash.update([0]);
        }
        hash.finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::HashSet;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn the_built_in_pools_have_the_papers_sizes_and_forms() {
        for (style, pool_size) in [("chatgpt", 16), ("bard", 16), ("coco", 18), ("human", 16)] {
            let pool = Pool::open(style).unwrap();
            assert_eq!((pool.name.as_str(), pool.len()), (style, pool_size));
            let texts: HashSet<&str> = pool.texts().iter().map(|(_, text)| *text).collect();
            assert_eq!(texts.len(), pool.texts().len(), "{style} repeats a text");
            assert!(texts.iter().all(|text| words(text) <= 30), "{style}");
            if let Kind::Groups(groups) = &pool.kind {
                assert!(groups.iter().all(|group| group.len() == 5));
            }
            if let (Kind::Pairs(pairs), true) = (&pool.kind, style != "human") {
                for Pair { source, target } in pairs {
                    assert_eq!(*source, source.to_lowercase(), "{style}");
                    assert!(
                        words(source) < words(target) && target.ends_with('.'),
                        "{target}"
                    );
                }
            }
        }
        assert_eq!(Pool::open("mscoco").unwrap(), Pool::open("coco").unwrap());
    }

    #[test]
    fn draws_are_different_pairs_and_a_function_of_the_seed() {
        for style in STYLES {
            let pool = Pool::open(style).unwrap();
            let mut seen = HashSet::new();
            for seed in 0..500 {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let drawn = pool.draw(&mut rng);
                assert_eq!(drawn, pool.draw(&mut ChaCha8Rng::seed_from_u64(seed)));
                let sources: HashSet<_> = drawn.iter().map(|e| e.source).collect();
                assert_eq!(sources.len(), EXAMPLES);
                assert!(drawn.iter().all(|e| e.source != e.target));
                seen.extend(drawn.iter().map(|e| (e.source, e.target)));
            }
            // 1,500 draws leave out one of 16 pairs or of 360 ordered ones only rarely.
            assert!(
                seen.len() >= if style == "coco" { 340 } else { 16 },
                "{}",
                seen.len()
            );
        }
    }

    #[test]
    fn a_file_that_could_not_make_a_prompt_is_refused() {
        let pairs = |texts: [&str; 3]| {
            let pairs = texts.map(|t| format!(r#"{{"source": "a", "target": "{t}"}}"#));
            format!(r#"{{"name": "mine", "pairs": [{}]}}"#, pairs.join(","))
        };
        assert!(Pool::parse(&pairs(["b", "c", "d"])).is_ok());
        let refused = |json: &str, word: &str| {
            let problem = Pool::parse(json).unwrap_err();
            assert!(problem.contains(word), "no `{word}` in: {problem}");
        };
        refused(&pairs(["b", " ", "d"]), "target of pair 1 is empty");
        refused(&pairs(["b", "c", "d\\ne"]), "line break");
        refused(&pairs(["b => c", "c", "d"]), "=>");
        refused(r#"{"name": "x", "pairs": []}"#, "0 examples");
        refused(r#"{"name": "x"}"#, "either");
        refused(
            r#"{"name": "x", "groups": [["a", "b"], ["c", "d"], ["e"]]}"#,
            "group 2",
        );
        refused("[]", "expected");
        refused(r#"{"name": "x", "pairs": [{"source": "a"}]}"#, "target");
        assert!(
            Pool::open("nowhere.json")
                .unwrap_err()
                .to_string()
                .contains("chatgpt")
        );
    }
}
