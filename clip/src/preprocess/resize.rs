//! Antialiased resize: bit-exact with Pillow for `u8` images, as PyTorch's for `f32` tables.

use std::ops::Range;

use image::RgbImage;

use super::Interpolation;
use super::filter::Taps;

/// Fractional bits of the integer weights (Pillow's `PRECISION_BITS`).
const PRECISION: u32 = 22;
/// Rows that the horizontal pass handles at once, one per lane of a vector register.
const ROWS: usize = 8;
/// Samples that the vertical pass accumulates at once.
const CHUNK: usize = 32;

/// Resizes an image to `size` (height, width) exactly as Pillow's `Image.resize` does.
///
/// # Panics
///
/// Panics if the image or `size` has a side of zero.
pub fn resize(image: &RgbImage, size: [usize; 2], interpolation: Interpolation) -> RgbImage {
    let [height, width] = size;
    let mut out = RgbImage::new(width as u32, height as u32);
    View::of(image).resize_window(size, [0..height, 0..width], interpolation, &mut out, width * 3);
    out
}

/// A rectangle of RGB pixels inside a larger image.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// From the first byte of the rectangle on.
    pixels: &'a [u8],
    /// Bytes from one row to the next.
    stride: usize,
    pub height: usize,
    pub width: usize,
}

impl<'a> View<'a> {
    /// The whole image.
    pub fn of(image: &'a RgbImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self { pixels: image.as_raw(), stride: width * 3, height, width }
    }

    /// The part of this view with the given corner and size, which must lie inside.
    pub fn crop(self, [top, left]: [usize; 2], [height, width]: [usize; 2]) -> Self {
        assert!(top + height <= self.height && left + width <= self.width);
        Self { pixels: &self.pixels[top * self.stride + left * 3..], height, width, ..self }
    }

    fn row(&self, y: usize) -> &'a [u8] {
        &self.pixels[y * self.stride..][..self.width * 3]
    }

    /// Resizes to `size` and writes the part inside `window` (rows, columns) into `out`, whose
    /// rows are `out_stride` bytes apart.
    ///
    /// Cost and memory follow the window, not `size`: a 20000 x 10 image whose centre is wanted at
    /// height 224 never becomes 448000 pixels wide.
    pub fn resize_window(
        &self,
        size: [usize; 2],
        [rows, columns]: [Range<usize>; 2],
        interpolation: Interpolation,
        out: &mut [u8],
        out_stride: usize,
    ) {
        assert!(self.height > 0 && self.width > 0 && size[0] > 0 && size[1] > 0, "empty image");
        let vertical = Taps::new(interpolation, self.height, size[0], rows).map(quantize);
        let horizontal = Taps::new(interpolation, self.width, size[1], columns).map(quantize);
        resize_passes(self, &horizontal, &vertical, out, out_stride);
    }
}

/// `trunc(weight · 2²² ± 0.5)`, the sign being that of the weight.
fn quantize(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION) + 0.5f64.copysign(weight)) as i32
}

/// Rounds a sum of products that started at one half.
#[inline(always)]
fn round_to_u8(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// Runs both passes in the widest vector code that the processor has.
#[allow(unsafe_code)]
fn resize_passes(
    view: &View,
    horizontal: &Taps<i32>,
    vertical: &Taps<i32>,
    out: &mut [u8],
    out_stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(v: &View, x: &Taps<i32>, y: &Taps<i32>, out: &mut [u8], stride: usize) {
            passes(v, x, y, out, stride);
        }
        // SAFETY: the processor has just been asked for AVX2.
        return unsafe { with_avx2(view, horizontal, vertical, out, out_stride) };
    }
    passes(view, horizontal, vertical, out, out_stride);
}

/// Horizontal pass, rounded to `u8`, then vertical pass: the order and the rounding between are
/// Pillow's and visible in the result.
#[inline(always)]
fn passes(view: &View, horizontal: &Taps<i32>, vertical: &Taps<i32>, out: &mut [u8], stride: usize) {
    let rows = vertical.inputs();
    let row_bytes = horizontal.len() * 3;
    if row_bytes == 0 {
        return;
    }
    let mut narrow = vec![0u8; rows.len() * row_bytes];
    horizontal_pass(view, rows.start, horizontal, &mut narrow);
    for ((first, weights), out_row) in vertical.iter().zip(out.chunks_mut(stride)) {
        let inputs = &narrow[(first - rows.start) * row_bytes..];
        vertical_pass(inputs, weights, &mut out_row[..row_bytes]);
    }
}

/// Resizes the rows from `first_row` on, as many as fit `out`.
///
/// Takes [`ROWS`] rows at a time and interleaves them, so that one weight multiplies a whole
/// vector: `block[x]` holds channel-major lanes `[channel][row]` of column `x`.
#[inline(always)]
fn horizontal_pass(view: &View, first_row: usize, taps: &Taps<i32>, out: &mut [u8]) {
    let row_bytes = taps.len() * 3;
    let columns = taps.inputs();
    let mut block = vec![[0u8; 3 * ROWS]; columns.len()];
    for (i, out_rows) in out.chunks_mut(ROWS * row_bytes).enumerate() {
        let rows = out_rows.len() / row_bytes;
        for lane in 0..rows {
            let row = &view.row(first_row + i * ROWS + lane)[columns.start * 3..];
            for (pixel, lanes) in row.chunks_exact(3).zip(&mut block) {
                lanes[lane] = pixel[0];
                lanes[ROWS + lane] = pixel[1];
                lanes[2 * ROWS + lane] = pixel[2];
            }
        }
        for (x, (first, weights)) in taps.iter().enumerate() {
            let mut sums = [HALF; 3 * ROWS];
            for (&weight, lanes) in weights.iter().zip(&block[first - columns.start..]) {
                for (sum, &sample) in sums.iter_mut().zip(lanes) {
                    *sum += weight * i32::from(sample);
                }
            }
            for lane in 0..rows {
                let pixel = &mut out_rows[lane * row_bytes + x * 3..][..3];
                pixel[0] = round_to_u8(sums[lane]);
                pixel[1] = round_to_u8(sums[ROWS + lane]);
                pixel[2] = round_to_u8(sums[2 * ROWS + lane]);
            }
        }
    }
}

/// One output row: the weighted sum of the first rows of `inputs`.
#[inline(always)]
fn vertical_pass(inputs: &[u8], weights: &[i32], out: &mut [u8]) {
    let row_bytes = out.len();
    let mut chunks = out.chunks_exact_mut(CHUNK);
    let mut start = 0;
    for chunk in &mut chunks {
        let mut sums = [HALF; CHUNK];
        for (&weight, row) in weights.iter().zip(inputs.chunks_exact(row_bytes)) {
            for (sum, &sample) in sums.iter_mut().zip(&row[start..start + CHUNK]) {
                *sum += weight * i32::from(sample);
            }
        }
        for (out, sum) in chunk.iter_mut().zip(sums) {
            *out = round_to_u8(sum);
        }
        start += CHUNK;
    }
    for (x, out) in chunks.into_remainder().iter_mut().enumerate() {
        let column = inputs.chunks_exact(row_bytes).map(|row| i32::from(row[start + x]));
        let sum: i32 = weights.iter().zip(column).map(|(weight, sample)| weight * sample).sum();
        *out = round_to_u8(HALF + sum);
    }
}

/// Antialiased bicubic resize of a table, without rounding: what checkpoints need to change their
/// grid of position embeddings.
///
/// Equals `torch.nn.functional.interpolate(mode="bicubic", antialias=True, align_corners=False)`.
///
/// # Shapes
///
/// - src: `[height, width, channels]`, row-major
/// - output: `[new_height, new_width, channels]`
///
/// # Panics
///
/// Panics if `src` is not of the given shape or a side is zero.
pub fn resize_f32(src: &[f32], shape: [usize; 3], new_size: [usize; 2]) -> Vec<f32> {
    let [height, width, channels] = shape;
    let [new_height, new_width] = new_size;
    assert_eq!(src.len(), height * width * channels, "the table must be {shape:?}");
    assert!(src.len() * new_height * new_width > 0, "empty table or target");
    let taps = |n_in, n_out| {
        Taps::new(Interpolation::Bicubic, n_in, n_out, 0..n_out).map(|weight| weight as f32)
    };
    let mut narrow = Vec::with_capacity(height * new_width * channels);
    let horizontal = taps(width, new_width);
    for row in src.chunks_exact(width * channels) {
        weighted_rows(row, channels, &horizontal, &mut narrow);
    }
    let mut out = Vec::with_capacity(new_height * new_width * channels);
    weighted_rows(&narrow, new_width * channels, &taps(height, new_height), &mut out);
    out
}

/// Appends, for every output of `taps`, the weighted sum of rows of `src` that are `len` long.
fn weighted_rows(src: &[f32], len: usize, taps: &Taps<f32>, out: &mut Vec<f32>) {
    for (first, weights) in taps.iter() {
        let start = out.len();
        out.resize(start + len, 0.0);
        for (&weight, row) in weights.iter().zip(src[first * len..].chunks_exact(len)) {
            for (sum, &x) in out[start..].iter_mut().zip(row) {
                *sum += weight * x;
            }
        }
    }
}
