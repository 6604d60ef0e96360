//! Images that were preprocessed elsewhere.

use crate::encoder::Encoder;
use anyhow::{Context, Result, bail};
use burn::prelude::*;
use burn::tensor::TensorData;
use clip_burn::cli::progress;
use clip_burn::clip::checkpoint::read_state_dict;
use clip_burn::eval::{DualEncoder, TextEncoder};
use std::ops::Range;
use std::path::Path;

/// `[n, 3, height, width]` in memory.
#[derive(Default)]
pub struct Pixels {
    pub values: Vec<f32>,
    shape: [usize; 4],
}

impl Pixels {
    /// Reads `pixels` of a safetensors file.
    pub fn read(file: &Path) -> Result<Self> {
        let tensors = read_state_dict(file)?;
        let pixels = tensors
            .get("pixels")
            .with_context(|| format!("{}: no tensor `pixels` in this file", file.display()))?;
        let &[n, 3, height, width] = pixels.shape() else {
            bail!(
                "{}: `pixels` has shape {:?}, expected [n, 3, height, width]",
                file.display(),
                pixels.shape()
            );
        };
        Ok(Self {
            values: pixels.values(),
            shape: [n, 3, height, width],
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Refuses images of another size than the model's.
    pub fn check<B: Backend>(&self, encoder: &Encoder<B>, file: &Path) -> Result<()> {
        let [height, width] = encoder.preprocess().config().size;
        let [_, _, h, w] = self.shape;
        if [h, w] != [height, width] {
            bail!(
                "{}: `pixels` are {h}×{w}, the model wants {height}×{width}",
                file.display()
            );
        }
        Ok(())
    }

    /// Embeddings of some of the images.
    pub fn embed<B: Backend>(
        &self,
        encoder: &Encoder<B>,
        images: Range<usize>,
        batch: usize,
        device: &B::Device,
    ) -> Vec<f32> {
        let [_, channels, h, w] = self.shape;
        let image = channels * h * w;
        let bar = progress(images.len(), "images");
        let mut embedded = Vec::with_capacity(images.len() * encoder.embed_dim());
        let values = &self.values[images.start * image..images.end * image];
        for values in values.chunks((batch * image).max(1)) {
            let count = values.len() / image;
            let data = TensorData::new(values.to_vec(), [count, channels, h, w]);
            let rows = encoder.encode_images(Tensor::from_data(data, device));
            embedded.extend(rows.into_data().convert::<f32>().iter::<f32>());
            bar.inc(count as u64);
        }
        bar.finish_and_clear();
        embedded
    }
}
