//! Batches of rows, decoded on all cores while the device computes.

use std::ops::Range;

use clip::preprocess::{PixelBatch, Preprocess};
use rayon::prelude::*;

use super::rows::Rows;

/// Rows that could be read.
pub(super) struct Batch {
    pub pixels: PixelBatch,
    pub captions: Vec<String>,
    pub named: Vec<Vec<Option<String>>>,
    /// Why the others could not.
    pub bad: Vec<String>,
    /// Of all of them.
    pub len: usize,
}

pub(super) fn read_batch(rows: &Rows, preprocess: &Preprocess, range: Range<usize>) -> Batch {
    let [height, width] = preprocess.config().size;
    let mut batch = Batch {
        pixels: PixelBatch {
            pixels: Vec::new(),
            n: 0,
            height,
            width,
        },
        captions: Vec::new(),
        named: Vec::new(),
        bad: Vec::new(),
        len: range.len(),
    };
    let read: Vec<_> = range
        .into_par_iter()
        .map(|index| {
            let row = rows.read(index)?;
            let pixels = row.image.map(|image| preprocess.apply(&image));
            Ok::<_, crate::EvalError>((pixels, row.caption, row.named))
        })
        .collect();
    for row in read {
        match row {
            Ok((pixels, caption, named)) => {
                if let Some(pixels) = pixels {
                    batch.pixels.pixels.extend_from_slice(pixels.as_raw());
                    batch.pixels.n += 1;
                }
                batch.captions.extend(caption);
                batch.named.push(named);
            }
            Err(error) => batch.bad.push(error.to_string()),
        }
    }
    batch
}
