//! The `[data]` table of a recipe: where samples come from and how they are made into batches.

use crate::error::{Result, TrainError};
use crate::recipe::Section;
use clip::preprocess::AugmentConfig;
use data::csv::{CsvConfig, CsvSource};
use data::folder::{FolderConfig, FolderSource};
use data::jsonl::{JsonlConfig, JsonlSource};
use data::parquet::ParquetConfig;
use data::scenes::{ScenesSource, ScenesSourceConfig};
use data::webdataset::{IndexCache, ShardConfig, ShardSource};
use data::{CaptionMix, Draw, LoaderOptions, Mixture, Order, Sampler, Source};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The `[data]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataTable {
    /// Where samples come from; several are mixed.
    pub sources: Vec<SourceConfig>,
    /// How often each source is visited per epoch; absent: every sample once.
    #[serde(default)]
    pub draw: Option<Draw>,
    /// The order inside an epoch; absent: a random permutation.
    pub order: Option<Order>,
    /// Which captions are drawn, where the method leaves it open. Absent: web captions.
    pub captions: Option<CaptionMix>,
    /// Augmentation of the images.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// Samples per batch, threads, and the share of bad samples that is tolerated.
    #[serde(default)]
    pub loader: LoaderOptions,
}

/// One source, by `kind`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceConfig {
    /// Tar shards.
    Webdataset(ShardConfig),
    /// A table of image paths and captions, with LaCLIP's rewrite files.
    Csv(CsvConfig),
    /// One JSON object per line.
    Jsonl(JsonlConfig),
    /// Parquet files with the images inside.
    Parquet(ParquetConfig),
    /// Image files in class folders, or with caption files beside them.
    Folder(FolderConfig),
    /// The built-in captioned world.
    Scenes(ScenesSourceConfig),
}

impl Section for DataTable {
    const NAME: &'static str = "data";

    fn resolve(&mut self, folder: &Path) {
        let absolute = |path: &mut PathBuf| *path = folder.join(&*path);
        let root = |root: &mut Option<PathBuf>| {
            *root = Some(
                root.as_ref()
                    .map_or(folder.to_path_buf(), |root| folder.join(root)),
            );
        };
        for source in &mut self.sources {
            match source {
                SourceConfig::Webdataset(config) => {
                    root(&mut config.root);
                    if let Some(folder) = config
                        .embeddings
                        .as_mut()
                        .and_then(|e| e.directory.as_mut())
                    {
                        absolute(folder);
                    }
                    config.fetch.directory.iter_mut().for_each(absolute);
                    if let IndexCache::Directory(folder) = &mut config.index_cache {
                        absolute(folder);
                    }
                }
                SourceConfig::Csv(config) => {
                    absolute(&mut config.path);
                    config.rewrites.iter_mut().for_each(absolute);
                    root(&mut config.root);
                }
                SourceConfig::Jsonl(config) => {
                    absolute(&mut config.path);
                    root(&mut config.root);
                }
                SourceConfig::Parquet(config) => {
                    root(&mut config.root);
                    config.fetch.directory.iter_mut().for_each(absolute);
                }
                SourceConfig::Folder(config) => {
                    absolute(&mut config.path);
                    config.classnames.iter_mut().for_each(absolute);
                }
                SourceConfig::Scenes(_) => {}
            }
        }
    }
}

impl DataTable {
    /// The same table with all relative paths starting at `folder`.
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.resolve(folder);
        self
    }

    /// Opens all sources as one, with the order in which a replica reads it.
    ///
    /// # Errors
    ///
    /// When a source cannot be opened, or the settings contradict each other.
    pub fn open(&self, seed: u64, rank: usize, world: usize) -> Result<(Arc<dyn Source>, Sampler)> {
        if self.sources.is_empty() {
            return Err(TrainError::Config(
                "give at least one [[data.sources]]".into(),
            ));
        }
        let open = |source: &SourceConfig| -> Result<Box<dyn Source>, data::DataError> {
            Ok(match source.clone() {
                SourceConfig::Webdataset(config) => Box::new(ShardSource::open(config)?),
                SourceConfig::Csv(config) => Box::new(CsvSource::open(config)?),
                SourceConfig::Jsonl(config) => Box::new(JsonlSource::open(config)?),
                SourceConfig::Parquet(config) => config.open()?,
                SourceConfig::Folder(config) => Box::new(FolderSource::open(config)?),
                SourceConfig::Scenes(config) => Box::new(ScenesSource::open(config)?),
            })
        };
        let failed = |source: data::DataError| TrainError::Task {
            what: "opening the data",
            source: source.into(),
        };
        let parts: Vec<_> = self
            .sources
            .iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let mixture = Mixture::new(parts);
        let draw = self.draw.clone().unwrap_or(Draw::Once);
        let sampler = Sampler::mixed(mixture.lens(), draw, seed)
            .and_then(|sampler| sampler.with_order(self.order.unwrap_or(Order::Shuffled)))
            .and_then(|sampler| sampler.sharded(rank, world))
            .map_err(failed)?;
        Ok((Arc::new(mixture), sampler))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_refuses_fields_of_another_kind() {
        let parse = |text: &str| toml::from_str::<DataTable>(text).map(|_| ());
        assert!(parse("[[sources]]\nkind = \"webdataset\"\nshards = \"a.tar\"").is_ok());
        let wrong = parse("[[sources]]\nkind = \"webdataset\"\nseparator = \",\"").unwrap_err();
        assert!(wrong.to_string().contains("separator"), "{wrong}");
        assert!(
            parse("[[sources]]\nkind = \"zip\"")
                .unwrap_err()
                .to_string()
                .contains("zip")
        );
    }

    #[test]
    fn relative_paths_start_at_the_recipe() {
        let config: DataTable =
            toml::from_str("[[sources]]\nkind = \"csv\"\npath = \"train.tsv\"").unwrap();
        let config = config.relative_to(Path::new("recipes"));
        let SourceConfig::Csv(csv) = &config.sources[0] else {
            panic!("a CSV was given")
        };
        assert_eq!(csv.path, Path::new("recipes/train.tsv"));
        assert_eq!(csv.root.as_deref(), Some(Path::new("recipes")));

        let config: DataTable = toml::from_str(
            "[[sources]]\nkind = \"webdataset\"\nshards = \"a.tar\"\nindex_cache = { directory = \"index\" }\n\
             fetch = { directory = \"kept\" }\nembeddings = { directory = \"stored\" }",
        )
        .unwrap();
        let SourceConfig::Webdataset(shards) = &config.relative_to(Path::new("recipes")).sources[0]
        else {
            panic!("shards were given")
        };
        let stored = shards.embeddings.as_ref().unwrap().directory.as_deref();
        assert_eq!(stored, Some(Path::new("recipes/stored")));
        let kept = shards.fetch.directory.as_deref();
        assert_eq!(kept, Some(Path::new("recipes/kept")));
        let index = PathBuf::from("recipes/index");
        assert_eq!(shards.index_cache, IndexCache::Directory(index));

        let config: DataTable = toml::from_str(
            "[[sources]]\nkind = \"parquet\"\nfiles = \"a.parquet\"\nfetch = { directory = \"kept\" }",
        )
        .unwrap();
        let SourceConfig::Parquet(files) = &config.relative_to(Path::new("recipes")).sources[0]
        else {
            panic!("parquet files were given")
        };
        let kept = files.fetch.directory.as_deref();
        assert_eq!(kept, Some(Path::new("recipes/kept")));
    }

    #[test]
    fn a_folder_is_a_source_whose_paths_start_at_the_recipe() {
        let recipe = tempfile::tempdir().unwrap();
        let class = recipe.path().join("images/n01");
        std::fs::create_dir_all(&class).unwrap();
        std::fs::write(class.join("a.jpg"), "image").unwrap();
        std::fs::write(recipe.path().join("names.txt"), "tench").unwrap();
        let config: DataTable = toml::from_str(
            "order = { kind = \"sequential\" }\n[[sources]]\nkind = \"folder\"\npath = \"images\"\n\
             classnames = \"names.txt\"\ntemplates = [\"one {}\"]",
        )
        .unwrap();
        let (source, _) = config.relative_to(recipe.path()).open(0, 0, 1).unwrap();
        assert_eq!(source.get(0).unwrap().captions.web, ["one tench"]);
    }

    #[test]
    fn parquet_files_are_read_or_the_missing_feature_is_named() {
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parquet");
        let config: DataTable = toml::from_str(
            "[[sources]]\nkind = \"parquet\"\nfiles = \"{0..1}.parquet\"\nmax_bad = 0.5\n\
             caption_fields = [{ field = \"caption\", kind = \"web\", weight = 2 }]",
        )
        .unwrap();
        let opened = config.relative_to(&recipe).open(0, 0, 1);
        if cfg!(feature = "parquet") {
            assert_eq!(opened.unwrap().0.len(), 8);
        } else {
            let error = opened.err().unwrap();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains("--features parquet"), "{cause}");
        }
    }

    #[test]
    fn a_windowed_order_of_nothing_is_refused() {
        let config: DataTable = toml::from_str(
            "order = { kind = \"windowed\", block = 0, window = 1 }\n[[sources]]\nkind = \"scenes\"\n\
             world = { train_size = 9 }",
        )
        .unwrap();
        assert!(config.open(0, 0, 1).is_err());
    }

    #[test]
    fn scenes_refuse_fields_they_do_not_know() {
        let parse = |text: &str| toml::from_str::<DataTable>(text).map(|_| ());
        assert!(parse("[[sources]]\nkind = \"scenes\"\nworld = { train_size = 9 }").is_ok());
        let wrong = parse("[[sources]]\nkind = \"scenes\"\nworld = { trainsize = 9 }").unwrap_err();
        assert!(wrong.to_string().contains("trainsize"), "{wrong}");
    }
}
