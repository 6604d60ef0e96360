//! Time of an exact search among many rows in a mapped file.

use anyhow::{Context, Result};
use clap::Parser;
use clip_burn::eval::Features;
use clip_burn::eval::search::Index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Measure an exact search among random rows
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example search_speed -- --rows 1000000 --dim 512

The first search reads the file from the disk, or from the system's cache if it still has it.")]
struct Arguments {
    /// Rows to search
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Numbers in a row
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    dim: u32,
    /// f32, f16 or bf16: how they are stored
    #[arg(long, default_value = "f32", value_parser = ["f32", "f16", "bf16"])]
    dtype: String,
    /// Searches of each kind; the median is printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Where the file is made; it is removed at the end
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let dim = arguments.dim as usize;
    let file = tempfile::NamedTempFile::new_in(&arguments.folder)
        .with_context(|| arguments.folder.display().to_string())?;
    write(file.path(), arguments.rows, dim, &arguments.dtype)?;
    let index = Index::open(file.path())?;
    println!("{} rows of {dim} {}", arguments.rows, arguments.dtype);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut time = |queries: usize, repeat: u32| -> Result<f64> {
        let mut seconds = Vec::new();
        for _ in 0..repeat {
            let values = (0..queries * dim).map(|_| rng.random_range(-1.0..1.0));
            let queries = Features::new(values.collect(), dim)?;
            let start = Instant::now();
            index.search(&queries, 10)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    };
    println!("{:>4} query,   first search: {:.3} s", 1, time(1, 1)?);
    for queries in [1, 8, 64] {
        let seconds = time(queries, arguments.repeat)?;
        println!("{queries:>4} queries, median:      {seconds:.3} s");
    }
    Ok(())
}

/// Numbers between -1 and 1, a block of random ones over and over, each time turned by one.
fn write(path: &Path, rows: usize, dim: usize, dtype: &str) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (size, name) = match dtype {
        "f32" => (4, "F32"),
        "f16" => (2, "F16"),
        _ => (2, "BF16"),
    };
    let mut block: Vec<u8> = (0..4099 * dim)
        .flat_map(|_| {
            let value: f32 = rng.random_range(-1.0..1.0);
            match dtype {
                "f32" => value.to_le_bytes().to_vec(),
                "f16" => half::f16::from_f32(value).to_le_bytes().to_vec(),
                _ => half::bf16::from_f32(value).to_le_bytes().to_vec(),
            }
        })
        .collect();
    let header = serde_json::json!({
        "image_features": {
            "dtype": name, "shape": [rows, dim], "data_offsets": [0, rows * dim * size]
        }
    });
    let header = header.to_string();
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut left = rows * dim * size;
    while left > 0 {
        let part = left.min(block.len());
        file.write_all(&block[..part])?;
        block.rotate_left(size);
        left -= part;
    }
    Ok(file.flush()?)
}
