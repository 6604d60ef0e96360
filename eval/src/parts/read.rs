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
    let len = range.len();
    let (mut pixels, mut n) = (Vec::new(), 0);
    let (mut captions, mut named, mut bad) = (Vec::new(), Vec::new(), Vec::new());
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
            Ok((image, caption, names)) => {
                if let Some(image) = image {
                    pixels.extend_from_slice(image.as_raw());
                    n += 1;
                }
                captions.extend(caption);
                named.push(names);
            }
            Err(error) => bad.push(error.to_string()),
        }
    }
    Batch {
        pixels: PixelBatch {
            pixels: pixels.into(),
            n,
            height,
            width,
        },
        captions,
        named,
        bad,
        len,
    }
}
