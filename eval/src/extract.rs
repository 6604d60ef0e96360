//! Embedding many images and texts: worker threads decode while the device computes.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use burn::tensor::{Tensor, backend::Backend};
use clip::preprocess::{PixelBatch, Preprocess};
use dist::{Single, World};
use files::Shard;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::encoder::{DualEncoder, TextEncoder};
use crate::error::{EvalError, Result};
use crate::features::Features;
use crate::images::ImageRef;

/// Decoded batches that may wait for the device.
const QUEUE: usize = 2;

/// How to run over a data set.
#[derive(Clone, Debug)]
pub struct Extraction {
    /// Images, or texts, per forward pass.
    pub batch_size: usize,
    /// Unreadable images that are skipped; one more fails the run.
    pub max_bad: usize,
    /// Show a progress bar with rate and remaining time on the terminal.
    pub progress: bool,
    /// The processes that share the work: each embeds a part, all get the whole.
    pub world: Arc<dyn World>,
}

impl Default for Extraction {
    fn default() -> Self {
        Self {
            batch_size: 64,
            max_bad: 0,
            progress: false,
            world: Arc::new(Single),
        }
    }
}

/// An image that could not be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BadImage {
    /// Index in the data set.
    pub index: usize,
    /// The reason, with the file's name.
    pub reason: String,
}

/// Embeddings of the readable images of a data set.
#[derive(Debug)]
pub struct ImageFeatures {
    /// One row per readable image.
    pub features: Features,
    /// Index in the data set of each row.
    pub kept: Vec<usize>,
    /// The others.
    pub bad: Vec<BadImage>,
}

/// Decoded images of one batch, and those that were not readable.
struct Decoded {
    first: usize,
    len: usize,
    pixels: PixelBatch,
    bad: Vec<BadImage>,
}

/// Embeds all images in order, each process its part of them. Fails when more than `max_bad` are unreadable.
pub fn image_features<B: Backend, E: DualEncoder<B>>(
    encoder: &E,
    images: &[ImageRef],
    options: &Extraction,
    device: &B::Device,
) -> Result<ImageFeatures> {
    if options.world.size() == 1 {
        return own_images(encoder, images, 0, options, device);
    }
    let own = share(options)?.range(images.len());
    let read = own_images(encoder, &images[own.clone()], own.start, options, device);
    let all = gathered(read.map(|read| (read.features, read.bad)), options)?;
    let (mut features, mut bad) = (Vec::new(), Vec::new());
    for (values, skipped) in all {
        features.extend(values);
        bad.extend(skipped);
    }
    if bad.len() > options.max_bad {
        return Err(too_many_bad(&bad, images.len(), options.max_bad));
    }
    let skipped = |i: &usize| bad.binary_search_by_key(i, |b: &BadImage| b.index).is_ok();
    Ok(ImageFeatures {
        features: Features::new(features, encoder.embed_dim())?,
        kept: (0..images.len()).filter(|i| !skipped(i)).collect(),
        bad,
    })
}

/// The part that this process works on.
fn share(options: &Extraction) -> Result<Shard> {
    let world = &options.world;
    Shard::new(world.rank(), world.size()).map_err(EvalError::Encoder)
}

/// What all processes have read, in the order of their ranks.
fn gathered(
    mine: Result<(Features, Vec<BadImage>)>,
    options: &Extraction,
) -> Result<Vec<(Vec<f32>, Vec<BadImage>)>> {
    let lost = |error: dist::Error| EvalError::Encoder(error.to_string());
    let world = &options.world;
    let words = mine.as_ref().err().map(ToString::to_string);
    let heard = world.hear(words.as_deref());
    let (features, bad) = mine?;
    if let Some((rank, words)) = heard.map_err(lost)? {
        return Err(EvalError::Encoder(format!(
            "process {rank} failed: {words}"
        )));
    }
    let bytes: Vec<u8> = features
        .to_vec()
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    let values = world.gather(&bytes).map_err(lost)?;
    let bad = serde_json::to_vec(&bad).map_err(|error| EvalError::Encoder(error.to_string()))?;
    let bad = world.gather(&bad).map_err(lost)?;
    let read = values.into_iter().zip(bad).map(|(values, bad)| {
        let values = values
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let bad = serde_json::from_slice(&bad);
        Ok((
            values.collect(),
            bad.map_err(|error| EvalError::Encoder(error.to_string()))?,
        ))
    });
    read.collect()
}

/// Embeds the images of one process; the first of them is number `start` of the data set.
fn own_images<B: Backend, E: DualEncoder<B>>(
    encoder: &E,
    images: &[ImageRef],
    start: usize,
    options: &Extraction,
    device: &B::Device,
) -> Result<ImageFeatures> {
    let preprocess = encoder.preprocess();
    let bar = progress_bar(options, images.len(), "images");
    let mut values = Vec::with_capacity(images.len() * encoder.embed_dim());
    let (mut kept, mut bad) = (Vec::with_capacity(images.len()), Vec::new());
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(QUEUE);
        let batch_size = batch_size(options)?;
        scope.spawn(move || {
            for (batch, first) in images.chunks(batch_size).zip((start..).step_by(batch_size)) {
                // The receiver hangs up when the run fails: stop decoding.
                if sender.send(decode_batch(preprocess, batch, first)).is_err() {
                    break;
                }
            }
        });
        for decoded in receiver {
            bad.extend(decoded.bad);
            if bad.len() > options.max_bad {
                return Err(too_many_bad(&bad, images.len(), options.max_bad));
            }
            let skipped = |i: &usize| bad.binary_search_by_key(i, |b: &BadImage| b.index).is_ok();
            kept.extend((decoded.first..decoded.first + decoded.len).filter(|i| !skipped(i)));
            if decoded.pixels.n > 0 {
                let tensor = decoded.pixels.to_tensor::<B>(preprocess.config(), device);
                append(
                    &mut values,
                    encoder.encode_images(tensor),
                    encoder.embed_dim(),
                )?;
            }
            bar.inc(decoded.len as u64);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let features = Features::new(values, encoder.embed_dim())?;
    features.check_finite("embedding of image")?;
    Ok(ImageFeatures {
        features,
        kept,
        bad,
    })
}

/// Embeds all texts in order, each process its part of them.
pub fn text_features<B: Backend, E: TextEncoder<B>>(
    encoder: &E,
    texts: &[String],
    options: &Extraction,
) -> Result<Features> {
    if options.world.size() == 1 {
        return own_texts(encoder, texts, options);
    }
    let own = share(options)?.range(texts.len());
    let read = own_texts(encoder, &texts[own], options);
    let all = gathered(read.map(|features| (features, Vec::new())), options)?;
    let values = all.into_iter().flat_map(|(values, _)| values).collect();
    Features::new(values, encoder.embed_dim())
}

/// Embeds the texts of one process.
fn own_texts<B: Backend, E: TextEncoder<B>>(
    encoder: &E,
    texts: &[String],
    options: &Extraction,
) -> Result<Features> {
    let bar = progress_bar(options, texts.len(), "texts");
    let mut values = Vec::with_capacity(texts.len() * encoder.embed_dim());
    for batch in texts.chunks(batch_size(options)?) {
        append(
            &mut values,
            encoder.encode_texts(batch)?,
            encoder.embed_dim(),
        )?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    let features = Features::new(values, encoder.embed_dim())?;
    features.check_finite("embedding of text")?;
    Ok(features)
}

fn decode_batch(preprocess: &Preprocess, images: &[ImageRef], first: usize) -> Decoded {
    let decoded: Vec<_> = images
        .par_iter()
        .map(|image| image.decode().map(|rgb| preprocess.apply(&rgb)))
        .collect();
    let [height, width] = preprocess.config().size;
    let (mut pixels, mut n) = (Vec::new(), 0);
    let mut bad = Vec::new();
    for (index, result) in (first..).zip(decoded) {
        match result {
            Ok(image) => {
                pixels.extend_from_slice(image.as_raw());
                n += 1;
            }
            Err(error) => bad.push(BadImage {
                index,
                reason: error.to_string(),
            }),
        }
    }
    Decoded {
        first,
        len: images.len(),
        pixels: PixelBatch {
            pixels: pixels.into(),
            n,
            height,
            width,
        },
        bad,
    }
}

pub(crate) fn append<B: Backend>(
    values: &mut Vec<f32>,
    embeddings: Tensor<B, 2>,
    dim: usize,
) -> Result<()> {
    if embeddings.dims()[1] != dim {
        let reason = format!(
            "embeddings of {} floats, expected {dim}",
            embeddings.dims()[1]
        );
        return Err(EvalError::Encoder(reason));
    }
    let data = embeddings.into_data().convert::<f32>();
    let floats = data
        .as_slice::<f32>()
        .map_err(|e| EvalError::Encoder(format!("{e:?}")))?;
    values.extend_from_slice(floats);
    Ok(())
}

pub(crate) fn too_many_bad(bad: &[BadImage], total: usize, max_bad: usize) -> EvalError {
    let first = bad.first().map(|b| b.reason.clone()).unwrap_or_default();
    EvalError::BadImages {
        bad: bad.len(),
        total,
        max_bad,
        first,
    }
}

fn batch_size(options: &Extraction) -> Result<usize> {
    if options.batch_size == 0 {
        return Err(EvalError::Option {
            option: "batch_size",
            reason: "must be at least 1".into(),
        });
    }
    Ok(options.batch_size)
}

/// A bar with rate and remaining time, hidden unless asked for.
pub(crate) fn progress_bar(options: &Extraction, len: usize, what: &str) -> ProgressBar {
    if !options.progress || options.world.rank() != 0 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{prefix:>8} [{bar:32}] {human_pos}/{human_len} · {per_sec} · {eta} left",
    );
    let style = style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ");
    ProgressBar::new(len as u64)
        .with_style(style)
        .with_prefix(what.to_owned())
}
