//! Images per second of the loader on shards: read, decode, transform to 224 x 224, collate.
//!
//! `cargo run --release --example loader_throughput -- SHARDS MODE WORKERS BATCH SECONDS [batch]`, MODE being
//! `train` (open_clip's augmentation), `eval` (resize and centre crop) or `jitter` (augmentation with colour jitter). A
//! last argument `batch` gives whole batches to the threads instead of samples. Prints one line of JSON.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clip::preprocess::{
    Augment, AugmentConfig, PixelBatch, Preprocess, PreprocessConfig, RgbImage, decode,
};
use data::webdataset::{ShardConfig, ShardSource};
use data::{CollateError, Loader, LoaderOptions, Sample, Sampler, Source};
use rand_chacha::ChaCha8Rng;

const SIZE: [usize; 2] = [224, 224];

type BoxError = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [shards, mode, workers, batch_size, seconds, rest @ ..] = args.as_slice() else {
        return Err("arguments: SHARDS MODE WORKERS BATCH SECONDS [batch]".into());
    };
    let source = ShardSource::open(ShardConfig::new(shards))?;
    let sampler = Sampler::shuffled(source.len(), 0);
    let options = LoaderOptions {
        epochs: Some(u64::MAX),
        ..LoaderOptions::new(batch_size.parse()?, workers.parse()?)
    };
    let transform = transform(mode)?;
    let prepare =
        move |sample: Sample, rng: &mut ChaCha8Rng| -> Result<(RgbImage, String), BoxError> {
            let image = transform(&decode(&sample.image)?, rng);
            let caption = sample.captions.web.into_iter().next().unwrap_or_default();
            Ok((image, caption))
        };
    let source: Arc<dyn Source> = Arc::new(source);
    let loader = if rest.is_empty() {
        Loader::with_prepare(source, sampler, options, prepare, |items, _| {
            Ok(collate(items))
        })?
    } else {
        Loader::new(source, sampler, options, move |samples, rng| {
            let items = samples.into_iter().map(|sample| prepare(sample, rng));
            let items = items
                .collect::<Result<Vec<_>, _>>()
                .map_err(CollateError::Fatal)?;
            Ok(collate(items))
        })?
    };
    measure(loader, Duration::from_secs_f64(seconds.parse()?))
}

/// Counts what comes in `time` after the first two batches.
fn measure(mut loader: Loader<(PixelBatch, Vec<String>)>, time: Duration) -> Result<(), BoxError> {
    for batch in loader.by_ref().take(2) {
        batch?;
    }
    let (start, mut images, mut waited) = (Instant::now(), 0, loader.report().waited);
    while start.elapsed() < time {
        let Some(batch) = loader.next() else { break };
        images += batch?.0.n;
    }
    waited = loader.report().waited - waited;
    let first = loader.report().first_wait.as_secs_f64();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{{\"images_per_second\": {:.1}, \"first_batch_seconds\": {first:.3}, \"waited_share\": {:.2}}}",
        images as f64 / seconds,
        waited.as_secs_f64() / seconds
    );
    Ok(())
}

type Transform = Box<dyn Fn(&RgbImage, &mut ChaCha8Rng) -> RgbImage + Send + Sync>;

fn transform(mode: &str) -> Result<Transform, BoxError> {
    let config = match mode {
        "train" => AugmentConfig::default(),
        "jitter" => AugmentConfig {
            color_jitter: Some([0.4, 0.4, 0.4, 0.1]),
            color_jitter_prob: Some(0.8),
            gray_scale_prob: Some(0.2),
            ..AugmentConfig::default()
        },
        "eval" => {
            let preprocess = Preprocess::new(PreprocessConfig::default());
            return Ok(Box::new(move |image, _| preprocess.apply(image)));
        }
        other => return Err(format!("mode `{other}` is neither train, jitter nor eval").into()),
    };
    let augment = Augment::new(config, SIZE)?;
    Ok(Box::new(move |image, rng| augment.apply(image, rng)))
}

/// One buffer of pixels, as it goes to the device, and the captions.
fn collate(items: Vec<(RgbImage, String)>) -> (PixelBatch, Vec<String>) {
    let [height, width] = SIZE;
    let mut pixels = Vec::with_capacity(items.len() * height * width * 3);
    let mut captions = Vec::with_capacity(items.len());
    for (image, caption) in items {
        pixels.extend_from_slice(image.as_raw());
        captions.push(caption);
    }
    (
        PixelBatch {
            pixels: pixels.into(),
            n: captions.len(),
            height,
            width,
        },
        captions,
    )
}
