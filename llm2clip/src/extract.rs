//! A language model's vectors of all captions of a source, stored once (`extract_embedding.py` of the release).

mod made_of;

use crate::error::{Error, Result};
use burn::prelude::*;
use clip::Precision;
use data::store::{Row, Store, StoreInfo, StoreType, StoreWork, StoreWriter};
use data::webdataset::{EmbeddingShards, ShardConfig, ShardSource, write_embeddings};
use data::{Sample, Source};
use files::Shard;
use llm::Encoder;
use made_of::{MadeOf, digest_of};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A language model with what is written down of it.
#[derive(Debug)]
pub struct Extractor<B: Backend> {
    /// It.
    pub encoder: Encoder<B>,
    /// Its [`identity`](crate::identity()).
    pub identity: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Of its activations.
    pub precision: Precision,
    /// Texts at a time.
    pub batch: usize,
    /// Where to compute.
    pub device: Device<B>,
}

/// How far an extraction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Samples that are done, those of earlier runs included.
    pub samples: usize,
    /// All samples, as far as is known.
    pub of: usize,
    /// Vectors that were computed by this run.
    pub vectors: usize,
    /// Samples that could not be read.
    pub unread: usize,
}

/// Samples that are looked at for the names of captions.
const LOOKED_AT: usize = 100;

/// The names of the captions that the first samples of a source have, in the order in which they appear.
///
/// # Errors
///
/// When a sample cannot be read, or none has a caption.
pub fn caption_names(source: &dyn Source) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for index in 0..source.len().min(LOOKED_AT) {
        let sample = source.get(index)?;
        for (name, _) in sample.captions.named() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    match names.is_empty() {
        true => Err(Error::Options(format!(
            "{}: no captions to embed",
            source.name()
        ))),
        false => Ok(names),
    }
}

impl<B: Backend> Extractor<B> {
    /// Embeds the captions of some names into a store. What an earlier run wrote is kept, after a look at its captions.
    ///
    /// # Errors
    ///
    /// When the folder holds vectors of another language model or of other captions, when it cannot be written, and when a
    /// caption cannot be embedded.
    pub fn into_store(
        &self,
        source: &dyn Source,
        fields: &[String],
        settings: (StoreType, usize),
        folder: &Path,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Store> {
        let writer = self.writer(source, fields, settings, folder)?.0;
        self.fill(&writer, 0..writer.parts(), source, fields, report)?;
        Ok(writer.finish()?)
    }

    /// A share of [`Extractor::into_store`], in the same folder as all others. Shares are made of whole files of the store, and
    /// every file is computed on its own, so that it does not matter who does it. [`data::store::merge`] ends the work.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn share_into_store(
        &self,
        share: Shard,
        source: &dyn Source,
        fields: &[String],
        settings: (StoreType, usize),
        folder: &Path,
        report: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let (writer, info) = self.writer(source, fields, settings, folder)?;
        let options = [
            ("backend", B::name(&self.device)),
            ("precision", self.precision.to_string()),
            ("batch_size", self.batch.to_string()),
        ];
        let work = StoreWork {
            list: digest_of(source, fields, info.part),
            info,
            options: BTreeMap::from(options.map(|(name, value)| (name.into(), value))),
        };
        writer.check_share(share, &work)?;
        let parts = share.range(writer.parts());
        let done = self.fill(&writer, parts, source, fields, report)?;
        Ok(writer.finish_share(share, &work, done.unread)?)
    }

    fn writer(
        &self,
        source: &dyn Source,
        fields: &[String],
        (dtype, part): (StoreType, usize),
        folder: &Path,
    ) -> Result<(StoreWriter, StoreInfo)> {
        let info = StoreInfo {
            llm: self.identity.clone(),
            llm_path: self.path.display().to_string(),
            width: self.encoder.config.hidden_size,
            dtype,
            fields: fields.to_vec(),
            samples: source.len(),
            part,
        };
        check_names(source, fields)?;
        Ok((StoreWriter::open(folder, info.clone())?, info))
    }

    /// Writes some files of a store, those that are there already excepted.
    fn fill(
        &self,
        writer: &StoreWriter,
        parts: Range<usize>,
        source: &dyn Source,
        fields: &[String],
        report: &mut dyn FnMut(Progress),
    ) -> Result<Progress> {
        let mut progress = Progress {
            of: parts.clone().map(|part| writer.samples(part).len()).sum(),
            ..Progress::default()
        };
        for part in parts {
            let samples = writer.samples(part);
            let count = samples.len();
            let read = samples.into_par_iter().map(|index| source.get(index).ok());
            let rows = read
                .map(|sample| row_of(sample, fields))
                .collect::<Vec<_>>();
            progress.unread += rows.iter().filter(|row| row.key.is_empty()).count();
            if !writer.has(part, &rows)? {
                let vectors = self.vectors(&rows)?;
                progress.vectors += vectors.len() / self.encoder.config.hidden_size;
                writer.write(part, &rows, &vectors)?;
            }
            progress.samples += count;
            report(progress);
        }
        Ok(progress)
    }

    /// Embeds captions into siblings of webdataset shards, in the layout of the release, and says beside each, in a `.json`
    /// file, what it was made of: siblings that are there and say so are kept. A share takes a range of the shards.
    ///
    /// # Errors
    ///
    /// As [`Extractor::into_store`]; and when a shard is damaged.
    pub fn into_shards(
        &self,
        config: &ShardConfig,
        siblings: &EmbeddingShards,
        share: Shard,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Vec<PathBuf>> {
        let fields = &siblings.fields;
        let (mut progress, mut written) = (Progress::default(), Vec::new());
        if let Some(folder) = &siblings.directory {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let paths = config.paths()?;
        // A pattern may match siblings of an earlier run.
        let is_sibling = |path: &PathBuf| {
            let stem = path.file_stem().unwrap_or_default();
            stem.to_string_lossy().ends_with(&siblings.suffix)
        };
        let mut paths: Vec<PathBuf> = paths.into_iter().filter(|p| !is_sibling(p)).collect();
        for path in paths.drain(share.range(paths.len())) {
            let one = ShardConfig {
                shards: path.display().to_string(),
                root: None,
                embeddings: None,
                ..config.clone()
            };
            let source = ShardSource::open(one)?;
            check_names(&source, fields)?;
            let all = (0..source.len()).into_par_iter();
            let rows = all.map(|index| source.get(index).map(|sample| Row::of(&sample, fields)));
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let sibling = siblings.sibling(&path);
            let made_of = MadeOf::new(&self.identity, fields, &rows);
            let note = sibling.with_extension("json");
            if sibling.is_file() && made_of.is_said_in(&note)? {
                progress.samples += rows.len();
            } else {
                let vectors = self.vectors(&rows)?;
                let width = self.encoder.config.hidden_size;
                // The note would be untrue between the two writings.
                let _ = std::fs::remove_file(&note);
                write_embeddings(&sibling, fields, &rows, vectors.chunks_exact(width))?;
                let said = serde_json::to_string_pretty(&made_of).expect("plain fields") + "\n";
                clip::checkpoint::write_whole(&note, said.as_bytes())?;
                progress.samples += rows.len();
                progress.vectors += vectors.len() / width;
            }
            progress.of = progress.samples;
            report(progress);
            written.push(sibling);
        }
        Ok(written)
    }

    /// The vectors of all captions of some rows, one after another.
    fn vectors(&self, rows: &[Row]) -> Result<Vec<f32>> {
        let texts: Vec<&String> = rows
            .iter()
            .flat_map(|row| &row.captions)
            .flatten()
            .collect();
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let vectors = self.encoder.encode(&texts, self.batch, &self.device)?;
        let vectors = vectors.into_data().convert::<f32>();
        Ok(vectors.into_vec().expect("converted to f32"))
    }
}

/// A sample that cannot be read takes its place without a key, and is found by nobody.
fn row_of(sample: Option<Sample>, fields: &[String]) -> Row {
    match sample {
        Some(sample) => Row::of(&sample, fields),
        None => Row {
            key: String::new(),
            captions: vec![None; fields.len()],
        },
    }
}

/// Refuses names that none of the first samples has.
fn check_names(source: &dyn Source, fields: &[String]) -> Result<()> {
    let there = caption_names(source)?;
    let missing = |field: &&String| !there.iter().any(|name| name.eq_ignore_ascii_case(field));
    match fields.iter().find(missing) {
        None if fields.is_empty() => Err(Error::Options(
            "no captions are named: say which `fields` to embed".into(),
        )),
        None => Ok(()),
        Some(field) => Err(Error::Options(format!(
            "{}: no caption is called `{field}`; there are {}",
            source.name(),
            there.join(", ")
        ))),
    }
}
