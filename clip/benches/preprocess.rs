//! Decode and resize of real photographs on one core, in images per second.
//!
//! `cargo bench -p clip-burn-clip --bench preprocess` measures. With `-- --write DIR` it writes what it made,
//! for `tests/reference/pixels_compare.py`. Without the photographs it says so and ends.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clip::preprocess::{Preprocess, PreprocessConfig, RgbImage, decode};

const ROUNDS: usize = 5;

fn main() -> std::io::Result<()> {
    let mut paths = Vec::new();
    list(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/photos")),
        &mut paths,
    );
    paths.sort();
    if paths.is_empty() {
        println!("skipped: no photographs in ../shared/photos");
        return Ok(());
    }
    let files = paths
        .iter()
        .map(std::fs::read)
        .collect::<Result<Vec<_>, _>>()?;
    let preprocess = Preprocess::new(PreprocessConfig::default());

    let (images, decode_rate) = measure(&files, |bytes| decode(bytes).expect("a whole photograph"));
    let (crops, resize_rate) = measure(&images, |image| preprocess.apply(image));
    println!(
        "{} photographs, one core, best of {ROUNDS} rounds",
        images.len()
    );
    println!("decode                 {decode_rate:8.1} images/s");
    println!("resize and crop to 224 {resize_rate:8.1} images/s");
    println!(
        "both                   {:8.1} images/s",
        1.0 / (1.0 / decode_rate + 1.0 / resize_rate)
    );

    if let Some(dir) = std::env::args().skip_while(|arg| arg != "--write").nth(1) {
        std::fs::create_dir_all(&dir)?;
        for (path, (image, crop)) in paths.iter().zip(images.iter().zip(&crops)) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            std::fs::write(
                Path::new(&dir).join(format!("{stem}.decoded")),
                image.as_raw(),
            )?;
            std::fs::write(Path::new(&dir).join(format!("{stem}.crop")), crop.as_raw())?;
        }
    }
    Ok(())
}

/// Results of `work` and the best rate of several rounds, in items per second.
fn measure<T>(items: &[T], work: impl Fn(&T) -> RgbImage) -> (Vec<RgbImage>, f64) {
    let mut best = f64::INFINITY;
    let mut results = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        results = items.iter().map(&work).collect();
        best = best.min(start.elapsed().as_secs_f64());
    }
    (results, items.len() as f64 / best)
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => list(&path, files),
            path => files.push(path),
        }
    }
}
