//! The `[data]` table of stage 1: texts without images.

use super::captions::{CaptionPairs, CaptionTable, CapturedCaptions, CsvCaptions};
use super::triplets::{JsonTriplets, Triplet};
use crate::error::{Error, Result};
use data::text::{LinesConfig, LinesSource};
use data::{Draw, LoaderOptions, Mixture, Sampler, Source};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use train::{DataTable, Section, SourceConfig};

/// The `[data]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTable {
    /// The data sets; in contrastive tuning every batch is of one of them.
    pub sources: Vec<TextSource>,
    /// Texts, or triplets, per batch; threads; the share of bad ones that is tolerated.
    #[serde(default)]
    pub loader: LoaderOptions,
}

/// One data set, by `kind`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TextSource {
    /// Text files, one text per line: Wikitext.
    Lines(LinesConfig),
    /// Columns of a CSV file: CC3M with short and long captions.
    Csv(CsvTable),
    /// JSON lines of `query`, `positive` and `negative`: the retrieval sets of E5.
    Triplets(TripletTable),
    /// Captions of a source of images.
    Samples(Box<SampleTable>),
}

/// A CSV file with a header, one image per row.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvTable {
    /// The file.
    pub path: PathBuf,
    /// Names of the columns with captions, at least two.
    pub columns: Vec<String>,
    /// What a query is to find: none, one for all, or one for each column of the query.
    #[serde(default)]
    pub instructions: Vec<String>,
    /// In language modelling, whether all captions of an image are taken; else one of them, drawn once.
    #[serde(default)]
    pub all: bool,
}

/// A file of triplets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TripletTable {
    /// The file.
    pub path: PathBuf,
    /// What a query is to find; several take turns.
    #[serde(default)]
    pub instructions: Vec<String>,
}

/// Captions of a source of images.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleTable {
    /// The source, as in `[[data.sources]]` of any other training.
    pub source: SourceConfig,
    /// Names of the captions, at least two: JSON fields, or web, rewrite, rewrite.1, synthetic.
    pub columns: Vec<String>,
    /// What a query is to find: none, one for all, or one for each column of the query.
    #[serde(default)]
    pub instructions: Vec<String>,
    /// In language modelling, whether all captions of an image are taken; else one of them, drawn once.
    #[serde(default)]
    pub all: bool,
}

impl Section for TextTable {
    const NAME: &'static str = "data";

    fn resolve(&mut self, folder: &Path) {
        for source in &mut self.sources {
            match source {
                TextSource::Lines(lines) => {
                    let root = lines.root.as_ref().map(|root| folder.join(root));
                    lines.root = Some(root.unwrap_or_else(|| folder.into()));
                }
                TextSource::Csv(table) => table.path = folder.join(&table.path),
                TextSource::Triplets(table) => table.path = folder.join(&table.path),
                TextSource::Samples(table) => {
                    let alone = table_of(table.source.clone()).relative_to(folder);
                    table.source = alone.sources.into_iter().next().expect("the one");
                }
            }
        }
    }
}

/// A table of images with one source.
fn table_of(source: SourceConfig) -> DataTable {
    DataTable {
        sources: vec![source],
        draw: None,
        order: None,
        captions: None,
        augment: Default::default(),
        loader: Default::default(),
    }
}

impl TextTable {
    /// All triplets, in batches of one data set each: `batch` is that of a step, over all parts of it.
    ///
    /// # Errors
    ///
    /// When a data set cannot be opened, has no pairs, or none fills a batch.
    pub fn triplets(&self, seed: u64, batch: usize) -> Result<(Arc<dyn Source<Triplet>>, Sampler)> {
        let open = |(place, source): (usize, &TextSource)| -> Result<Box<dyn Source<Triplet>>> {
            // Data sets do not share their coins.
            let seed = seed.wrapping_add(place as u64);
            if let TextSource::Triplets(table) = source {
                let (path, instructions) = (table.path.clone(), table.instructions.clone());
                return Ok(Box::new(JsonTriplets::open(path, instructions)?));
            }
            let Some((table, columns, instructions, _)) = source.table()? else {
                return Err(Error::Options(
                    "data.sources: lines of text have no pairs; take csv, samples or triplets"
                        .into(),
                ));
            };
            let pairs = CaptionPairs::new(table, columns, instructions.to_vec(), seed)?;
            Ok(Box::new(pairs))
        };
        self.check()?;
        let parts = self.sources.iter().enumerate().map(open);
        let mixture = Mixture::new(parts.collect::<Result<Vec<_>>>()?);
        let sampler = Sampler::mixed(mixture.lens(), Draw::Grouped { batch }, seed)?;
        Ok((Arc::new(mixture), sampler))
    }

    /// All texts, in memory.
    ///
    /// # Errors
    ///
    /// When a data set cannot be opened or read, or is one of triplets.
    pub fn texts(&self, seed: u64) -> Result<Vec<String>> {
        self.check()?;
        let mut texts = Vec::new();
        for (place, source) in self.sources.iter().enumerate() {
            let seed = seed.wrapping_add(place as u64);
            match (source, source.table()?) {
                (_, Some((table, _, _, all))) => {
                    let rows = (0..table.len()).into_par_iter();
                    let rows = rows.map(|row| captions_of(table.as_ref(), row, all, seed));
                    texts.extend(rows.collect::<Result<Vec<_>>>()?.concat());
                }
                (TextSource::Lines(lines), None) => {
                    let lines = LinesSource::open(lines.clone())?;
                    let read = (0..lines.len())
                        .into_par_iter()
                        .map(|line| Ok(lines.get(line)?.text));
                    texts.extend(read.collect::<Result<Vec<_>>>()?);
                }
                _ => {
                    return Err(Error::Options(
                        "data.sources: triplets are for contrastive tuning; take lines, csv or samples".into(),
                    ));
                }
            }
        }
        Ok(texts)
    }

    fn check(&self) -> Result<()> {
        match self.sources.is_empty() {
            true => Err(Error::Options("give at least one [[data.sources]]".into())),
            false => Ok(()),
        }
    }
}

/// The captions of a row that language modelling reads.
fn captions_of(table: &dyn CaptionTable, row: usize, all: bool, seed: u64) -> Result<Vec<String>> {
    let mut captions = table.captions(row)?;
    captions.retain(|caption| !caption.trim().is_empty());
    if all || captions.len() < 2 {
        return Ok(captions);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(row as u64);
    let drawn = rng.random_range(0..captions.len());
    Ok(vec![captions.swap_remove(drawn)])
}

type Opened<'a> = (Box<dyn CaptionTable>, usize, &'a [String], bool);

impl TextSource {
    /// The table of captions, with the number of its columns, the instructions, and whether all captions are texts.
    fn table(&self) -> Result<Option<Opened<'_>>> {
        let (columns, instructions, all) = match self {
            Self::Lines(_) | Self::Triplets(_) => return Ok(None),
            Self::Csv(table) => (&table.columns, &table.instructions, table.all),
            Self::Samples(table) => (&table.columns, &table.instructions, table.all),
        };
        if columns.len() < 2 {
            return Err(Error::Options(format!(
                "data.sources: columns = [{}]; two captions of an image are needed at least",
                columns.join(", ")
            )));
        }
        let table: Box<dyn CaptionTable> = match self {
            Self::Csv(table) => Box::new(CsvCaptions::open(table.path.clone(), columns)?),
            Self::Samples(table) => {
                let opened = table_of(table.source.clone()).open(0, 0, 1);
                let (source, _) = opened.map_err(|error| Error::Options(error.to_string()))?;
                let columns = columns.clone();
                Box::new(CapturedCaptions { source, columns })
            }
            Self::Lines(_) | Self::Triplets(_) => unreachable!("returned above"),
        };
        Ok(Some((table, columns.len(), instructions, all)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(folder: &Path, name: &str, n: usize) -> TextSource {
        let path = folder.join(format!("{name}.jsonl"));
        let line = |i| format!(r#"{{"query": "{name} {i}", "positive": "p", "negative": "n"}}"#);
        std::fs::write(&path, (0..n).map(line).collect::<Vec<_>>().join("\n")).unwrap();
        TextSource::Triplets(TripletTable {
            path,
            instructions: Vec::new(),
        })
    }

    #[test]
    fn every_batch_is_of_one_set_and_no_triplet_comes_twice_in_an_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = [("a", 37), ("b", 12), ("c", 64)];
        let table = TextTable {
            sources: sizes.map(|(name, n)| set(folder.path(), name, n)).to_vec(),
            loader: LoaderOptions::default(),
        };
        let (source, sampler) = table.triplets(5, 8).unwrap();
        assert_eq!(sampler.len(), 32 + 8 + 64);
        let mut orders = Vec::new();
        for epoch in 0..3 {
            let visits: Vec<usize> = (0..sampler.len())
                .map(|i| sampler.index(epoch, i))
                .collect();
            let queries: Vec<String> = visits
                .iter()
                .map(|i| source.get(*i).unwrap().query)
                .collect();
            for batch in queries.chunks(8) {
                assert!(
                    batch.iter().all(|query| query[..1] == batch[0][..1]),
                    "{batch:?}"
                );
            }
            let distinct: std::collections::BTreeSet<_> = queries.iter().collect();
            assert_eq!(distinct.len(), queries.len());
            orders.push(queries);
        }
        assert_ne!(orders[0], orders[1]);
    }

    #[test]
    fn texts_are_all_captions_or_one_of_each_image() {
        let table = |all: bool| {
            let text = format!(
                "[[sources]]\nkind = \"samples\"\ncolumns = [\"web\", \"synthetic\"]\nall = {all}\n\
                 source = {{ kind = \"scenes\", world = {{ train_size = 20, image_size = 16 }} }}"
            );
            toml(&text)
        };
        let (all, one) = (
            table(true).texts(1).unwrap(),
            table(false).texts(1).unwrap(),
        );
        assert_eq!((all.len(), one.len()), (40, 20));
        assert!(
            one.iter()
                .enumerate()
                .all(|(i, text)| all[2 * i..2 * i + 2].contains(text))
        );
        assert!(one.iter().enumerate().any(|(i, text)| *text == all[2 * i]));
        assert!(
            one.iter()
                .enumerate()
                .any(|(i, text)| *text == all[2 * i + 1])
        );
    }

    fn toml(text: &str) -> TextTable {
        let mut recipe = train::Recipe::parse(&format!(
            "[run]\nsteps = 1\n{}",
            text.replace("[[sources]]", "[[data.sources]]")
        ))
        .unwrap();
        recipe.section().unwrap()
    }

    #[test]
    fn sets_without_pairs_and_triplets_without_texts_are_refused() {
        let lines = toml("[[sources]]\nkind = \"lines\"\nfiles = \"wiki.txt\"");
        let message = lines.triplets(0, 1).err().unwrap().to_string();
        assert!(message.contains("no pairs"), "{message}");
        let folder = tempfile::tempdir().unwrap();
        let triplets = TextTable {
            sources: vec![set(folder.path(), "a", 3)],
            loader: LoaderOptions::default(),
        };
        assert!(triplets.texts(0).is_err());
        let message = triplets.triplets(0, 4).err().unwrap().to_string();
        assert!(message.contains("group of 4"), "{message}");
        let narrow = toml("[[sources]]\nkind = \"csv\"\npath = \"a.csv\"\ncolumns = [\"short\"]");
        assert!(
            narrow
                .texts(0)
                .unwrap_err()
                .to_string()
                .contains("two captions")
        );
    }
}
