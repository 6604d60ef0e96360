//! What the name of a shard means.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::pipe::Pipe;
use super::{Fetch, Form};
use crate::error::DataError;

/// Where the bytes of a shard come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file that is read where it lies.
    File(PathBuf),
    /// A compressed file.
    Gzip(PathBuf),
    /// What a command writes.
    Pipe(String),
    /// What a server sends.
    Url(String),
}

impl Origin {
    pub fn of(name: String, root: Option<&Path>) -> Result<Self, DataError> {
        if let Some(command) = name.strip_prefix("pipe:") {
            return Ok(Self::Pipe(command.trim().into()));
        }
        if name.starts_with("https://") || name.starts_with("http://") {
            return Ok(Self::Url(name));
        }
        if let Some((scheme, _)) = name.split_once("://") {
            let what = format!(
                "`{scheme}:` is not known here; take what reads it as a pipe, such as \
                 `pipe:aws s3 cp s3://bucket/00000.tar -`"
            );
            return Err(DataError::Fetch { name, what });
        }
        let path = root.unwrap_or(Path::new("")).join(&name);
        Ok(match name.ends_with(".gz") || name.ends_with(".tgz") {
            true => Self::Gzip(path),
            false => Self::File(path),
        })
    }

    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// As the pattern has it.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) | Self::Gzip(path) => path.display().to_string(),
            Self::Pipe(command) => format!("pipe:{command}"),
            Self::Url(url) => url.clone(),
        }
    }

    /// An error of this shard.
    pub fn fails(&self, what: impl Into<String>) -> DataError {
        DataError::Fetch {
            name: self.name(),
            what: what.into(),
        }
    }

    /// Its bytes as they come, compressed or not.
    pub fn open(&self, fetch: &Fetch) -> Result<Box<dyn Read>, DataError> {
        match self {
            Self::File(path) | Self::Gzip(path) => match std::fs::File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) => Err(DataError::io(path, error)),
            },
            Self::Pipe(command) => match Pipe::start(command) {
                Ok(pipe) => Ok(Box::new(pipe)),
                Err(error) => Err(self.fails(format!("the shell cannot be started: {error}"))),
            },
            #[cfg(feature = "http")]
            Self::Url(url) => Ok(Box::new(super::http::Download::new(url, fetch))),
            #[cfg(not(feature = "http"))]
            Self::Url(url) => {
                let _ = fetch;
                Err(self.fails(format!(
                    "this program was built without the feature `http`: build it with `--features http`, or write \
                     `pipe:curl -sSfL --retry 5 {url}`"
                )))
            }
        }
    }

    /// What it is called in the folder of fetched shards: one name for one origin, and for people the end of its own.
    pub fn cached_name(&self, form: Form) -> String {
        let known = match self {
            // A file that changes is another one.
            Self::File(path) | Self::Gzip(path) => {
                let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let file = std::fs::metadata(path).ok();
                let changed = file.as_ref().and_then(|file| file.modified().ok());
                let since = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let bytes = file.as_ref().map(std::fs::Metadata::len);
                format!("{}\0{bytes:?}\0{since:?}", absolute.display())
            }
            Self::Pipe(_) | Self::Url(_) => self.name(),
        };
        let digest = Sha256::digest(known.as_bytes());
        let digest: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}-{digest}.{form}", self.stem(form))
    }

    /// The last part of its name before `.tar` or `.parquet`, in letters that any disk takes.
    fn stem(&self, form: Form) -> String {
        let name = self.name();
        let before_query = match self {
            Self::Url(url) => url.split(['?', '#']).next().unwrap_or_default(),
            _ => name.as_str(),
        };
        let word = before_query
            .split(|c: char| c.is_whitespace() || "/\\'\"=".contains(c))
            .rfind(|word| form.endings().iter().any(|end| word.contains(end)))
            .unwrap_or("shard");
        let end = form.endings().iter().find_map(|end| word.find(end));
        let stem = word[..end.unwrap_or(word.len())].chars();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let stem: String = stem
            .map(|c| if plain(c) { c } else { '_' })
            .take(80)
            .collect();
        match stem.trim_start_matches('.') {
            "" => "shard".into(),
            stem => stem.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Origin {
        Origin::of(name.into(), Some(Path::new("root"))).unwrap()
    }

    #[test]
    fn names_mean_files_commands_and_addresses() {
        assert_eq!(of("a/0.tar"), Origin::File("root/a/0.tar".into()));
        assert_eq!(of("0.tar.gz"), Origin::Gzip("root/0.tar.gz".into()));
        assert_eq!(of("0.tgz"), Origin::Gzip("root/0.tgz".into()));
        assert_eq!(of("pipe: cat 0.tar"), Origin::Pipe("cat 0.tar".into()));
        let url = "https://h/0.tar?token=a";
        assert_eq!(of(url), Origin::Url(url.into()));
        let said = Origin::of("s3://b/0.tar".into(), None).unwrap_err();
        let said = said.to_string();
        assert!(
            said.contains("s3://b/0.tar") && said.contains("pipe:aws"),
            "{said}"
        );
    }

    #[test]
    fn kept_names_end_as_their_own_and_are_one_for_each_origin() {
        let stem_of = |name: &str, form: Form| {
            let kept = of(name).cached_name(form);
            let (stem, digest) = kept.rsplit_once('-').unwrap();
            assert_eq!(digest.len(), 17 + form.to_string().len(), "{kept}");
            stem.to_owned()
        };
        let stem = |name: &str| stem_of(name, Form::Tar);
        assert_eq!(stem("https://h/a/00000.tar?x=/b.tar"), "00000");
        assert_eq!(stem("https://h/download?id=3"), "shard");
        assert_eq!(stem("pipe:aws s3 cp s3://b/c-00001.tar -"), "c-00001");
        assert_eq!(stem("pipe:cat 'x/ü y.tar.gz' | gunzip"), "y");
        assert_eq!(stem("https://h/..tar"), "shard");
        let parquet = "https://h/v1.tar/0-of-9.parquet?download=true";
        assert_eq!(stem_of(parquet, Form::Parquet), "0-of-9");
        let kept = |name: &str| of(name).cached_name(Form::Tar);
        assert_ne!(kept("https://h/0.tar?a"), kept("https://h/0.tar?b"));
    }
}
