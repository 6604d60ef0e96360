//! Webdataset shards: tar archives in which the members of a sample share a name and differ in
//! extension.
//!
//! Unlike the streaming reader of the Python library, shards are indexed when they are opened and
//! any sample is read by seeking, so that order, resumption and sharding over processes are exact. Shards that are no local files
//! become such first, see [`fetch`](crate::fetch).

mod braces;
mod cache;
mod config;
mod embedding_writer;
mod embeddings;
mod layout;
mod shard;
mod tar;

use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};

pub use braces::expand;
pub(crate) use braces::local_files;
pub use cache::IndexCache;
pub use config::ShardConfig;
pub use embedding_writer::write_embeddings;
pub use embeddings::{EmbeddingShards, ShardEmbeddings};
pub use layout::{BenchmarkLayout, DatasetType};
pub use shard::TarSample;
pub use tar::Member;
pub(crate) use tar::scan;

use self::config::Extensions;
use self::shard::{Grouped, Part, Shard};
use crate::captions::{FieldsSeen, read_fields};
use crate::embeddings::StoredEmbeddings;
use crate::error::{DataError, Place};
use crate::npy;
use crate::problem::{Problem, Problems};
use crate::report::{CaptionCounts, SourceReport, spread};
use crate::sample::{CaptionKind, Captions, Sample};
use crate::source::{Source, out_of_range};

/// The samples of a list of shards, in the order of the list.
#[derive(Debug)]
pub struct ShardSource {
    config: ShardConfig,
    extensions: Extensions,
    shards: Vec<OpenShard>,
    /// `ends[i]` is the number of samples in shards `0..=i`.
    ends: Vec<usize>,
    problems: Problems,
    counts: CaptionCounts,
}

#[derive(Debug)]
struct OpenShard {
    images: Shard,
    embeddings: Option<Shard>,
}

/// The samples of one shard, for whoever reads them without [`ShardSource`]: members of one key in a row, as
/// [`ShardSource`] and the webdataset library group them.
///
/// # Errors
///
/// As [`members`].
pub fn samples(path: &Path) -> Result<Vec<TarSample>, DataError> {
    Ok(TarSample::group(members(path)?))
}

/// The members of one shard and where they lie, for whoever reads them without [`ShardSource`].
///
/// # Errors
///
/// Fails if the file cannot be read or is damaged anywhere.
pub fn members(path: &Path) -> Result<Vec<Member>, DataError> {
    let io = |error| DataError::io(path, error);
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let contents = tar::scan(file, length).map_err(io)?;
    match contents.damage.into_iter().next() {
        None => Ok(contents.members),
        Some((place, what)) => Err(DataError::malformed(path, place, what)),
    }
}

/// Shards that are indexed before what is wrong with them is looked at: the problems of millions together would fill the memory.
const AT_ONCE: usize = 1024;

/// A shard as it was found: itself unless it is unreadable, samples dropped, and what was wrong.
struct Found {
    shard: Option<OpenShard>,
    damaged: bool,
    dropped: usize,
    problems: Vec<Problem>,
}

impl ShardSource {
    /// Indexes the shards, several at a time.
    ///
    /// Of a damaged shard, what is whole is used; an unreadable shard is left out; samples without
    /// an image, without a caption where one is required, or without a stored embedding are
    /// dropped. All this is told by [`ShardSource::problems`].
    ///
    /// # Errors
    ///
    /// Fails if more than `max_bad` of the shards are damaged or more than `max_bad` of the samples
    /// dropped, if no sample is left, if a configured JSON field stands in none of some samples that
    /// are looked at (all of a small source), and if the configuration is contradictory.
    pub fn open(config: ShardConfig) -> Result<Self, DataError> {
        let paths = config.paths()?;
        let extensions = config.extensions()?;
        let mut problems = Problems::default();
        let (mut damaged, mut dropped, mut len) = (0, 0, 0);
        let (mut shards, mut ends) = (Vec::new(), Vec::new());
        for some in paths.chunks(AT_ONCE) {
            let found: Vec<Found> = some
                .par_iter()
                .map(|path| find(path, &config, &extensions))
                .collect();
            for found in found {
                damaged += usize::from(found.damaged);
                dropped += found.dropped;
                for problem in found.problems {
                    problems.push(problem);
                }
                if let Some(shard) = found.shard {
                    len += shard.images.len();
                    shards.push(shard);
                    ends.push(len);
                }
            }
            // As soon as they are too many, so that a mistaken pattern is told before all its names are tried.
            let bad = (damaged, paths.len(), "shards");
            problems.check(&config.shards, bad, config.max_bad)?;
        }
        problems.check(
            &config.shards,
            (dropped, len + dropped, "samples"),
            config.max_bad,
        )?;
        if len == 0 {
            let what = match problems.iter().next() {
                Some(first) => format!("no usable sample; the first problem: {first}"),
                None => "no usable sample; the shards are empty".into(),
            };
            return Err(DataError::Pattern {
                pattern: config.shards,
                what,
            });
        }
        let mut source = Self {
            config,
            extensions,
            shards,
            ends,
            problems,
            counts: CaptionCounts::default(),
        };
        source.look_at_captions()?;
        Ok(source)
    }

    /// Counts the captions of some samples, and checks that the configured fields are there. What
    /// cannot be read is met again when it is loaded.
    fn look_at_captions(&mut self) -> Result<(), DataError> {
        let fields = &self.config.json_fields;
        let (mut captions, mut seen) = (Vec::new(), FieldsSeen::default());
        for index in spread(self.len()) {
            let (OpenShard { images: shard, .. }, sample) = self.locate(index)?;
            let mut file = shard.open_file()?;
            match self.read_json(shard, &mut file, sample) {
                Ok(Some(object)) => seen.see(&object, fields),
                Ok(None) => {}
                Err(_) => seen.see_broken(),
            }
            captions.extend(self.read_captions(shard, &mut file, sample).ok());
        }
        if let Some(what) = seen.absent(fields) {
            let pattern = self.config.shards.clone();
            return Err(DataError::Pattern { pattern, what });
        }
        self.counts = CaptionCounts::of(captions);
        Ok(())
    }

    /// What is damaged or was dropped.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Number of samples of each usable shard, for [`Order::Windowed`](crate::Order::Windowed).
    pub fn shard_lens(&self) -> Vec<usize> {
        self.shards.iter().map(|shard| shard.images.len()).collect()
    }

    /// The classes a sample's multi-hot `.npy` member marks. `npy` must be among the
    /// configuration's `extra` members.
    pub fn multi_hot(&self, index: usize) -> Result<Vec<usize>, DataError> {
        let (path, key, bytes) = self.member(index, "npy")?;
        let array = npy::parse(&bytes)
            .map_err(|what| DataError::malformed(&path, Place::Member(key), what))?;
        Ok(array.marked())
    }

    /// The bytes of an `extra` member of a sample, with the shard and key they came from.
    pub fn member(
        &self,
        index: usize,
        extension: &str,
    ) -> Result<(PathBuf, String, Vec<u8>), DataError> {
        let (shard, sample) = self.locate(index)?;
        let part = self
            .extensions
            .find(extension)
            .and_then(|e| sample.parts.iter().find(|p| p.extension == e));
        let Some(part) = part else {
            let what = format!("no .{extension} member; name it in `extra` if the shard has one");
            return Err(DataError::malformed(
                &shard.images.path,
                Place::Member(sample.key.into()),
                what,
            ));
        };
        let bytes = shard
            .images
            .read(&mut shard.images.open_file()?, *part, sample.key)?;
        Ok((shard.images.path.clone(), sample.key.to_string(), bytes))
    }

    fn locate(&self, index: usize) -> Result<(&OpenShard, Grouped<'_>), DataError> {
        let shard = self.ends.partition_point(|end| *end <= index);
        let start = if shard == 0 { 0 } else { self.ends[shard - 1] };
        let shard = self
            .shards
            .get(shard)
            .ok_or_else(|| out_of_range(self, index))?;
        Ok((shard, shard.images.sample(index - start)))
    }

    fn read_captions(
        &self,
        shard: &Shard,
        file: &mut File,
        sample: Grouped,
    ) -> Result<Captions, DataError> {
        let mut captions = Captions::default();
        if let Some(part) = self.extensions.part(sample, self.extensions.text) {
            let bytes = shard.read(file, part, sample.key)?;
            let text = String::from_utf8_lossy(&bytes);
            if self.config.text_lines {
                text.lines()
                    .for_each(|line| captions.push(CaptionKind::Web, line.replace("\\n", "\n")));
            } else {
                captions.push(CaptionKind::Web, text);
            }
        }
        if let Some(object) = self.read_json(shard, file, sample)? {
            read_fields(&object, &self.config.json_fields, &mut captions);
        }
        Ok(captions)
    }

    fn read_json(
        &self,
        shard: &Shard,
        file: &mut File,
        sample: Grouped,
    ) -> Result<Option<Map<String, Value>>, DataError> {
        match self.extensions.part(sample, self.extensions.json) {
            None => Ok(None),
            Some(part) => self.parse_json(shard, file, sample, part).map(Some),
        }
    }

    fn parse_json(
        &self,
        shard: &Shard,
        file: &mut File,
        sample: Grouped,
        part: Part,
    ) -> Result<Map<String, Value>, DataError> {
        let bytes = shard.read(file, part, sample.key)?;
        serde_json::from_str(&String::from_utf8_lossy(&bytes)).map_err(|error| {
            let what = format!("the .json member is no JSON object: {error}");
            DataError::malformed(&shard.path, Place::Member(sample.key.into()), what)
        })
    }
}

impl Source for ShardSource {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Reads the bytes of one sample. Fails if the shard changed since it was indexed, and if the
    /// members do not hold what they should.
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (
            OpenShard {
                images: shard,
                embeddings,
            },
            sample,
        ) = self.locate(index)?;
        let fail = |what: String| {
            DataError::malformed(&shard.path, Place::Member(sample.key.into()), what)
        };
        let mut file = shard.open_file()?;
        let image = self
            .extensions
            .image(sample)
            .ok_or_else(|| fail("no image".into()))?;
        let image = shard.read(&mut file, image, sample.key)?;
        let captions = self.read_captions(shard, &mut file, sample)?;
        if captions.is_empty() && self.config.require_caption {
            return Err(fail("all captions are empty".into()));
        }
        let label = match self.extensions.part(sample, self.extensions.label) {
            None => None,
            Some(part) => {
                let bytes = shard.read(&mut file, part, sample.key)?;
                let text = String::from_utf8_lossy(&bytes);
                let label = text.trim().parse();
                Some(label.map_err(|_| {
                    fail(format!("the label is `{}`, not a class index", text.trim()))
                })?)
            }
        };
        let embeddings =
            match (embeddings, &self.config.embeddings) {
                (Some(sibling), Some(config)) => Some(StoredEmbeddings::Shard(
                    ShardEmbeddings::of(sibling, sample.sibling, &config.fields),
                )),
                _ => None,
            };
        Ok(Sample {
            key: sample.key.to_string(),
            image,
            captions,
            label,
            embeddings,
        })
    }

    fn name(&self) -> String {
        self.config.shards.clone()
    }

    /// `url` of the `.json` member, as img2dataset writes it, where that is read: for captions, or named in `extra`.
    fn url(&self, index: usize) -> Result<Option<String>, DataError> {
        let (OpenShard { images: shard, .. }, sample) = self.locate(index)?;
        let Some(part) = self.extensions.part(sample, self.extensions.find("json")) else {
            return Ok(None);
        };
        let object = self.parse_json(shard, &mut shard.open_file()?, sample, part)?;
        Ok(object.get("url").and_then(Value::as_str).map(str::to_owned))
    }

    fn reports(&self) -> Vec<SourceReport> {
        let has_captions = self.extensions.text.or(self.extensions.json).is_some();
        vec![SourceReport {
            name: self.name(),
            samples: self.len(),
            captions: has_captions.then_some(self.counts),
            dropped: self.problems.by_reason(),
        }]
    }
}

fn find(path: &Path, config: &ShardConfig, extensions: &Extensions) -> Found {
    let mut problems = Vec::new();
    match open(path, config, extensions, &mut problems) {
        Ok((shard, dropped)) => {
            // Each dropped sample is one problem; what is beyond that is damage of the archives.
            let damaged = problems.len() > dropped;
            Found {
                shard: Some(shard),
                damaged,
                dropped,
                problems,
            }
        }
        Err(error) => {
            let problem = match error {
                DataError::Malformed { path, place, what } => Problem { path, place, what },
                DataError::Io { path, source } => {
                    Problem::new(&path, Place::Whole, source.to_string())
                }
                other => Problem::new(path, Place::Whole, other.to_string()),
            };
            problems.push(problem);
            Found {
                shard: None,
                damaged: true,
                dropped: 0,
                problems,
            }
        }
    }
}

fn open(
    path: &Path,
    config: &ShardConfig,
    extensions: &Extensions,
    problems: &mut Vec<Problem>,
) -> Result<(OpenShard, usize), DataError> {
    let (mut images, damage) = Shard::open(path, &extensions.all, &config.index_cache)?;
    problems.extend(
        damage
            .into_iter()
            .map(|(place, what)| Problem::new(path, place, what)),
    );
    let before = images.len();
    images.retain(
        |_, sample| match extensions.lacks(sample, config.require_caption) {
            None => Some(0),
            Some(what) => {
                problems.push(Problem::new(
                    path,
                    Place::Member(sample.key.to_string()),
                    what,
                ));
                None
            }
        },
    );
    let embeddings = match &config.embeddings {
        None => None,
        Some(embeddings) => Some(embeddings.attach(&mut images, &config.index_cache, problems)?),
    };
    let dropped = before - images.len();
    Ok((OpenShard { images, embeddings }, dropped))
}

#[cfg(test)]
mod tests;
