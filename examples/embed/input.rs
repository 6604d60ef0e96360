//! Where images and captions come from, as the command line says it.

use anyhow::{Context, Result, bail};
use clap::Args;
use clip_burn::cli::{image_paths, lines};
use clip_burn::data::csv::{CaptionColumn, Column, CsvConfig, CsvSource};
use clip_burn::data::fetch::Fetch;
use clip_burn::data::parquet::ParquetConfig;
use clip_burn::data::webdataset::{ShardConfig, ShardSource};
use clip_burn::data::{CaptionField, CaptionKind, Source};
use clip_burn::eval::images::ImageRef;
use clip_burn::eval::parts::Rows;
use std::path::PathBuf;

/// What is embedded.
#[derive(Args)]
pub struct InputArgs {
    /// Files, directories (walked recursively, sorted by path) or .txt lists of paths
    #[arg(long, num_args = 1.., conflicts_with = "pixels")]
    pub images: Vec<PathBuf>,
    /// Preprocessed images in place of --images: a safetensors file with `pixels [n, 3, h, w]`, f32, normalized
    #[arg(long)]
    pub pixels: Option<PathBuf>,
    /// A file with one text per line
    #[arg(long)]
    pub texts: Option<PathBuf>,
    /// A table of image files and captions with a header, as open_clip trains on
    #[arg(long, conflicts_with_all = ["images", "pixels", "texts"])]
    pub csv: Option<PathBuf>,
    /// With --csv: the column of image files [default: filepath]
    #[arg(long, value_name = "COLUMN")]
    csv_img_key: Option<String>,
    /// With --csv: the column of captions [default: title]
    #[arg(long, value_name = "COLUMN")]
    csv_caption_key: Option<String>,
    /// With --csv: what stands between columns [default: \\t]
    #[arg(long, value_name = "CHAR")]
    csv_separator: Option<String>,
    /// Parquet files with images and captions inside, such as 'cc3m/{00000..00331}.parquet' or 'https://host/{000..099}.parquet'
    #[arg(long, conflicts_with_all = ["images", "pixels", "texts", "csv"], value_name = "PATTERN")]
    pub parquet: Option<String>,
    /// With --parquet: the column of encoded images [default: jpg]
    #[arg(long, value_name = "COLUMN")]
    image_column: Option<String>,
    /// With --parquet: the column of captions [default: caption]
    #[arg(long, value_name = "COLUMN")]
    caption_column: Option<String>,
    /// Webdataset shards of images and captions, such as 'cc3m/{00000..00331}.tar', 'https://host/{000..099}.tar'
    /// or 'pipe:aws s3 cp s3://bucket/{000..099}.tar -'
    #[arg(long, conflicts_with_all = ["images", "pixels", "texts", "csv", "parquet"], value_name = "PATTERN")]
    pub webdataset: Option<String>,
    /// With --webdataset or --parquet: the folder that keeps what is no such file here (https://.., pipe:COMMAND, .tar.gz)
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

impl InputArgs {
    /// Refuses a command line that names no input, or a part of one that it does not name.
    ///
    /// # Errors
    ///
    /// Names the options that do.
    pub fn check(&self) -> Result<()> {
        let files = [&self.pixels, &self.texts, &self.csv];
        let patterns = [&self.parquet, &self.webdataset];
        if self.images.is_empty()
            && files.iter().all(|file| file.is_none())
            && patterns.iter().all(|pattern| pattern.is_none())
        {
            bail!(
                "nothing to embed: give --images, --pixels or --texts, or --csv, --parquet or --webdataset"
            );
        }
        // Not by `requires`: clap asks for nothing that another argument excludes.
        let parts = [
            (
                "--csv-img-key",
                self.csv_img_key.is_some(),
                "--csv",
                self.csv.is_some(),
            ),
            (
                "--csv-caption-key",
                self.csv_caption_key.is_some(),
                "--csv",
                self.csv.is_some(),
            ),
            (
                "--csv-separator",
                self.csv_separator.is_some(),
                "--csv",
                self.csv.is_some(),
            ),
            (
                "--image-column",
                self.image_column.is_some(),
                "--parquet",
                self.parquet.is_some(),
            ),
            (
                "--caption-column",
                self.caption_column.is_some(),
                "--parquet",
                self.parquet.is_some(),
            ),
            (
                "--cache-dir",
                self.cache_dir.is_some(),
                "--webdataset or --parquet",
                self.webdataset.is_some() || self.parquet.is_some(),
            ),
        ];
        match parts
            .into_iter()
            .find(|(_, given, _, whole)| *given && !whole)
        {
            Some((part, _, whole, _)) => bail!("{part} says more of {whole}, which is not given"),
            None => Ok(()),
        }
    }

    /// All rows, each an image, a caption or both. What was left out already is told on standard error.
    ///
    /// # Errors
    ///
    /// When something cannot be read, or images and texts are two lists.
    pub fn rows(&self) -> Result<Rows> {
        if let Some(table) = self.table()? {
            return Ok(Rows::Table(Box::new(table)));
        }
        let fetch = Fetch {
            directory: self.cache_dir.clone(),
            ..Fetch::default()
        };
        if let Some(files) = &self.parquet {
            let config = ParquetConfig {
                image_column: or(&self.image_column, "jpg"),
                caption_fields: vec![CaptionField::new(
                    or(&self.caption_column, "caption"),
                    CaptionKind::Web,
                )],
                url_column: Some("url".into()),
                fetch,
                max_bad: 1.0,
                ..ParquetConfig::new(files)
            };
            let files = config.paths()?;
            let source = config.open()?;
            tell_dropped(source.as_ref());
            return Ok(Rows::Source { source, files });
        }
        if let Some(shards) = &self.webdataset {
            let config = ShardConfig {
                fetch,
                extra: vec!["json".into()],
                max_bad: 1.0,
                ..ShardConfig::new(shards)
            };
            let files = config.paths()?;
            let source = ShardSource::open(config)?;
            tell_dropped(&source);
            return Ok(Rows::Source {
                source: Box::new(source),
                files,
            });
        }
        match (&self.images[..], &self.texts, &self.pixels) {
            (_, _, Some(_)) => bail!("--pixels: --format npy embeds images, give --images"),
            ([], Some(texts), _) => Ok(Rows::Captions(lines(texts)?)),
            (images, None, _) => {
                let files = image_paths(images)?.into_iter().map(ImageRef::File);
                Ok(Rows::Images(files.collect()))
            }
            _ => bail!(
                "--images and --texts are two lists, and a row of --format npy is an image with its caption: embed them \
                 one after the other into two folders, or give both as --csv"
            ),
        }
    }

    /// The table that --csv names.
    pub fn table(&self) -> Result<Option<CsvSource>> {
        let Some(path) = &self.csv else {
            return Ok(None);
        };
        let caption = Column::Name(or(&self.csv_caption_key, "title"));
        let config = CsvConfig {
            separator: separator(&or(&self.csv_separator, "\\t"))?,
            image: Column::Name(or(&self.csv_img_key, "filepath")),
            captions: vec![CaptionColumn::new(caption, CaptionKind::Web)],
            max_bad: 1.0,
            ..CsvConfig::new(path)
        };
        let table = CsvSource::open(config)?;
        tell_dropped(&table);
        Ok(Some(table))
    }
}

fn or(given: &Option<String>, default: &str) -> String {
    given.clone().unwrap_or_else(|| default.into())
}

/// A character, or its name in two characters, which a shell passes on more easily.
fn separator(text: &str) -> Result<char> {
    if text == "\\t" {
        return Ok('\t');
    }
    let mut characters = text.chars();
    let one = characters.next().filter(|_| characters.next().is_none());
    one.with_context(|| format!("--csv-separator `{text}`: give one character, or \\t for a tab"))
}

fn tell_dropped(source: &dyn Source) {
    for report in source.reports() {
        for dropped in report.dropped {
            eprintln!("passed over: {dropped}");
        }
    }
}
