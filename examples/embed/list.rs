//! What is to be embedded, the whole of it, whatever share a process has.

use crate::Arguments;
use crate::encoder::Encoder;
use crate::pixels::Pixels;
use anyhow::Result;
use burn::prelude::*;
use clip_burn::cli::{image_paths, lines};
use clip_burn::data::Source;
use clip_burn::eval::Extraction;
use clip_burn::eval::embedded::list_digest;
use clip_burn::eval::extract::image_features;
use clip_burn::eval::images::ImageRef;
use std::ops::Range;

/// Images by their files or by their pixels, and texts.
pub struct List {
    files: Vec<ImageRef>,
    /// Of the files.
    paths: Vec<String>,
    pub pixels: Pixels,
    pub texts: Vec<String>,
}

/// Embeddings of the images that could be read.
pub struct Images {
    /// `[paths, embed_dim]`, row by row.
    pub rows: Vec<f32>,
    pub paths: Vec<String>,
    /// Why others were left out.
    pub left_out: Vec<String>,
}

impl List {
    pub fn read(arguments: &Arguments) -> Result<Self> {
        let input = &arguments.input;
        let mut files = image_paths(&input.images)?;
        let texts = input.texts.as_deref().map(lines).transpose()?;
        let mut texts = texts.unwrap_or_default();
        if let Some(table) = input.table()? {
            for index in 0..table.len() {
                let row = table.row(index)?;
                files.push(row.path);
                texts.extend(row.captions.web.into_iter().next());
            }
        }
        let files: Vec<_> = files.into_iter().map(ImageRef::File).collect();
        let pixels = input.pixels.as_deref().map(Pixels::read).transpose()?;
        Ok(Self {
            paths: files.iter().map(ImageRef::name).collect(),
            files,
            pixels: pixels.unwrap_or_default(),
            texts,
        })
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.files.len() + self.pixels.len()
    }

    pub fn digest(&self) -> String {
        let texts = self.texts.iter().map(String::as_str);
        list_digest(
            self.paths.iter().map(String::as_str),
            &self.pixels.values,
            texts,
        )
    }

    /// Embeds some of the images.
    pub fn embed_images<B: Backend>(
        &self,
        encoder: &Encoder<B>,
        rows: Range<usize>,
        options: &Extraction,
        device: &B::Device,
    ) -> Result<Images> {
        if self.pixels.len() > 0 {
            return Ok(Images {
                rows: self.pixels.embed(encoder, rows, options.batch_size, device),
                paths: Vec::new(),
                left_out: Vec::new(),
            });
        }
        let read = image_features(encoder, &self.files[rows.clone()], options, device)?;
        let path = |i: &usize| self.paths[rows.start + i].clone();
        Ok(Images {
            rows: read.features.to_vec(),
            paths: read.kept.iter().map(path).collect(),
            left_out: read.bad.into_iter().map(|bad| bad.reason).collect(),
        })
    }
}
