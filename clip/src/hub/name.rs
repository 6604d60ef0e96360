//! `ORG/NAME[@REVISION]`.

use hf_hub::{Repo, RepoType};

/// A model of the hub at a branch, tag or commit.
#[derive(Debug, PartialEq)]
pub(super) struct ModelName {
    id: String,
    revision: String,
}

impl ModelName {
    /// Refuses what is no name on the hub: it becomes part of paths and addresses.
    pub fn parse(name: &str) -> Result<Self, String> {
        let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
        let parts: Vec<&str> = id.split('/').collect();
        // A few models of the hub's first days have no organisation.
        if parts.len() > 2 || !parts.iter().all(|part| is_plain(part)) {
            return Err(
                "no name of a model; write hf-hub:ORG/NAME or hf-hub:ORG/NAME@REVISION".to_string(),
            );
        }
        if !revision.split('/').all(is_plain) {
            return Err(format!(
                "`{revision}` is no name of a branch, tag or commit"
            ));
        }
        Ok(Self {
            id: id.to_string(),
            revision: revision.to_string(),
        })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// A commit's full hash, which unlike a branch or tag means the same files for ever.
    pub fn names_a_commit(&self) -> bool {
        is_commit(&self.revision)
    }

    pub fn repo(&self) -> Repo {
        self.repo_at(&self.revision)
    }

    pub fn repo_at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, revision.to_string())
    }
}

pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_plain(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    !part.is_empty() && !part.starts_with('.') && !part.contains("..") && part.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_an_organisation_and_may_have_a_revision() {
        let model = ModelName::parse("laion/CLIP-ViT-B-32-laion2B-s34B-b79K").unwrap();
        assert_eq!(model.id(), "laion/CLIP-ViT-B-32-laion2B-s34B-b79K");
        assert_eq!((model.revision(), model.names_a_commit()), ("main", false));
        assert_eq!(
            ModelName::parse("org/m@refs/pr/3").unwrap().revision(),
            "refs/pr/3"
        );
        assert!(
            ModelName::parse(&format!("org/m@{}", "0a".repeat(20)))
                .unwrap()
                .names_a_commit()
        );
    }

    #[test]
    fn what_would_leave_the_cache_or_the_address_is_no_name() {
        for name in [
            "",
            "/",
            "org/",
            "../up",
            "a/b/c",
            "org/n?x",
            "org/m@",
            "org/m@../..",
            "org/m@a b",
        ] {
            assert!(ModelName::parse(name).is_err(), "{name}");
        }
    }
}
