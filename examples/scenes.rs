//! Writes the built-in captioned world in the formats of the real data sets, or a sheet of it to look at.

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use clip_burn::cli::{check_writable, parse};
use clip_burn::data::scenes::write::{
    ImageFormat, write_cc3m, write_imagenet, write_karpathy, write_webdataset,
};
use clip_burn::data::scenes::{Scenes, ScenesConfig, Split, contact_sheet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Write the built-in captioned world as data sets on disk
#[derive(Parser)]
#[command(after_help = "Examples:
  scenes --format webdataset --split train --images 20000 --out scenes/shards
  scenes --format karpathy --images 1000 --out scenes/retrieval
  scenes --format imagenet --images 1000 --out scenes/classes
  scenes --sheet sheet.png --images 12
The folder appears when it is whole; one that exists is never touched.")]
struct Arguments {
    /// How to write the images and captions
    #[arg(long, value_enum, requires = "out", required_unless_present = "sheet")]
    format: Option<Format>,
    /// Folder to make
    #[arg(long, requires = "format")]
    out: Option<PathBuf>,
    /// PNG with the first images and all their captions, for people to look at
    #[arg(long)]
    sheet: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = SplitArg::Test)]
    split: SplitArg,
    /// Images of the split
    #[arg(long, default_value_t = 1000)]
    images: usize,
    /// Side of the images in pixels, 16 to 1024
    #[arg(long, default_value_t = 64)]
    image_size: u32,
    /// Seed of the world: splits of one seed belong together and share no image
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images per shard of a webdataset
    #[arg(long, default_value_t = 1000)]
    shard_size: usize,
    /// How the images are stored
    #[arg(long, value_enum, default_value_t = Encoding::Png)]
    encoding: Encoding,
    /// Shapes in the world, 2 to 10; shapes times colours is the number of classes
    #[arg(long, default_value_t = 10)]
    shapes: usize,
    /// Colours in the world, 2 to 8
    #[arg(long, default_value_t = 8)]
    colours: usize,
    /// Most objects in an image, 1 to 4
    #[arg(long, default_value_t = 4)]
    max_objects: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Tar shards with every caption: what `train` reads
    Webdataset,
    /// Images and LaCLIP's CSV and text files of captions and rewrites
    Cc3m,
    /// Images and five captions each: what `eval retrieval --format karpathy` reads
    Karpathy,
    /// One folder per class, class names and templates: what `eval zero-shot --dataset folder` reads
    Imagenet,
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitArg {
    Train,
    Validation,
    Test,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encoding {
    Png,
    Jpg,
    Webp,
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<()> {
    let arguments: Arguments = parse();
    if arguments.images == 0 || arguments.shard_size == 0 {
        bail!("--images and --shard-size must be at least 1");
    }
    let world = Scenes::new(arguments.world())?;
    let split = arguments.split.into();
    if let (Some(format), Some(out)) = (arguments.format, &arguments.out) {
        arguments.write(&world, split, format, out)?;
        let (images, classes) = (world.len(split), world.num_classes());
        println!("{}: {images} images of {classes} classes", out.display());
    }
    if let Some(path) = &arguments.sheet {
        check_writable(path)?;
        let sheet = contact_sheet(&world, split, arguments.images.min(SHEET), COLUMNS);
        sheet
            .save(path)
            .with_context(|| format!("{}: give a name that ends in .png", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Images on a sheet: as many as a screen or two can show.
const SHEET: usize = 24;
const COLUMNS: usize = 4;

impl Arguments {
    fn world(&self) -> ScenesConfig {
        let mut config = ScenesConfig {
            seed: self.seed,
            image_size: self.image_size,
            shapes: self.shapes,
            colours: self.colours,
            max_objects: self.max_objects,
            ..ScenesConfig::default()
        };
        match self.split {
            SplitArg::Train => config.train_size = self.images,
            SplitArg::Validation => config.validation_size = self.images,
            SplitArg::Test => config.test_size = self.images,
        }
        config
    }

    fn write(&self, world: &Scenes, split: Split, format: Format, out: &Path) -> Result<()> {
        let encoding = match self.encoding {
            Encoding::Png => ImageFormat::Png,
            Encoding::Jpg => ImageFormat::Jpg,
            Encoding::Webp => ImageFormat::Webp,
        };
        match format {
            Format::Webdataset => write_webdataset(world, split, out, self.shard_size, encoding),
            Format::Cc3m => write_cc3m(world, split, out, encoding),
            Format::Karpathy => write_karpathy(world, split, out, encoding),
            Format::Imagenet => write_imagenet(world, split, out, encoding),
        }?;
        Ok(())
    }
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::Train => Self::Train,
            SplitArg::Validation => Self::Validation,
            SplitArg::Test => Self::Test,
        }
    }
}
