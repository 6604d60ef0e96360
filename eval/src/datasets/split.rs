//! Which part of a data set is meant, and where it lies.

use std::path::{Path, PathBuf};

use data::folder::subfolders;

use super::named::Named;
use crate::error::{EvalError, Result};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// This one. It is an error if it is not there.
    Named(&'a str),
    /// This one if it is there; else the root itself, for data sets without splits. What a name converts to.
    Usual(&'a str),
}

impl<'a> Split<'a> {
    /// Its name.
    pub fn name(self) -> &'a str {
        match self {
            Self::Named(name) | Self::Usual(name) => name,
        }
    }

    /// This split if one is named, else the usual one.
    pub fn named_or(named: Option<&'a str>, usual: &'a str) -> Self {
        named.map_or(Self::Usual(usual), Self::Named)
    }

    /// The split of a data set that is named, else the one that is usually scored: `test` of webdatasets and of sets that
    /// are read as they are published, `val` of others.
    pub fn of_dataset(dataset: &str, named: Option<&'a str>) -> Self {
        let usual = match dataset.starts_with("wds") || Named::find(dataset).is_some() {
            true => "test",
            false => "val",
        };
        Self::named_or(named, usual)
    }

    /// The folder of the split and its name, which is empty where the root itself is taken.
    pub(super) fn folder(self, dataset: &str, root: &Path) -> Result<(PathBuf, String)> {
        let name = self.name();
        let folder = root.join(name);
        match self {
            _ if !name.is_empty() && folder.is_dir() => Ok((folder, name.into())),
            Self::Named(_) if !name.is_empty() => Err(self.absent(dataset, root)?),
            _ => Ok((root.to_owned(), String::new())),
        }
    }

    /// The error of a split that is not there, with those that are.
    pub(super) fn absent(self, dataset: &str, root: &Path) -> Result<EvalError> {
        let folders = subfolders(root, &mut data::Tally::default())?;
        let mut names: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
        let more = names.len().saturating_sub(10);
        names.truncate(10);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let reason = format!(
            "no split `{}` in {}; the folders there are: {}",
            self.name(),
            root.display(),
            names.join(", ")
        );
        Ok(EvalError::dataset(dataset, reason))
    }

    /// Refuses a split that a data set of one split cannot have.
    pub(super) fn is_the_only(self, dataset: &str) -> Result<()> {
        match self {
            Self::Named(name) if !["", "test", "val"].contains(&name) => {
                let reason = format!("there is no split `{name}`: the data set is one test set");
                Err(EvalError::dataset(dataset, reason))
            }
            _ => Ok(()),
        }
    }
}

impl<'a> From<&'a str> for Split<'a> {
    fn from(name: &'a str) -> Self {
        Self::Usual(name)
    }
}

impl<'a> From<&'a String> for Split<'a> {
    fn from(name: &'a String) -> Self {
        Self::Usual(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_split_is_there_or_an_error_that_lists_those_there() {
        let root = tempfile::tempdir().unwrap();
        for split in ["train", "val"] {
            std::fs::create_dir(root.path().join(split)).unwrap();
        }
        let of = |split: Split| split.folder("x", root.path());
        assert_eq!(of(Split::Named("val")).unwrap().1, "val");
        assert_eq!(of("val".into()).unwrap().1, "val");
        assert_eq!(
            of("test".into()).unwrap(),
            (root.path().into(), String::new())
        );
        let error = of(Split::Named("test")).unwrap_err().to_string();
        assert!(
            error.contains("no split `test`") && error.contains(": train, val"),
            "{error}"
        );
        assert!(Split::Named("train").is_the_only("x").is_err());
        assert!(Split::Named("val").is_the_only("x").is_ok());
        assert!(Split::Usual("train").is_the_only("x").is_ok());
    }
}
