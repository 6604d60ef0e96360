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
    View::of(image).resize_window(
        size,
        [0..height, 0..width],
        interpolation,
        &mut out,
        width * 3,
    );
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
        Self {
            pixels: image.as_raw(),
            stride: width * 3,
            height,
            width,
        }
    }

    /// The part of this view with the given corner and size, which must lie inside.
    pub fn crop(self, [top, left]: [usize; 2], [height, width]: [usize; 2]) -> Self {
        assert!(top + height <= self.height && left + width <= self.width);
        Self {
            pixels: &self.pixels[top * self.stride + left * 3..],
            height,
            width,
            ..self
        }
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
        let [height, width] = size;
        assert!(
            self.height.min(self.width).min(height).min(width) > 0,
            "empty image or target"
        );
        let mut vertical = Taps::new(interpolation, self.height, height, rows).map(quantize);
        let mut horizontal = Taps::new(interpolation, self.width, width, columns).map(quantize);
        // Only what is inside these rows and columns is ever read.
        let (rows, columns) = (vertical.rebase(), horizontal.rebase());
        let source = self.crop([rows.start, columns.start], [rows.len(), columns.len()]);
        let vertical_first = vertical_first([self.height, self.width], size);
        Passes {
            vertical,
            horizontal,
            vertical_first,
        }
        .run(&source, out, out_stride);
    }
}

/// Whether Pillow (13.0) resizes the height before the width. The first pass rounds to `u8`, so
/// the order shows in the last bit of some levels.
fn vertical_first([height, width]: [usize; 2], [new_height, new_width]: [usize; 2]) -> bool {
    new_height < height && height - new_height + 2 * new_width > 2 * width
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

/// The two one-dimensional resizes that make up an image resize.
struct Passes {
    vertical: Taps<i32>,
    horizontal: Taps<i32>,
    vertical_first: bool,
}

impl Passes {
    /// Resizes in the widest vector code that the processor has.
    #[allow(unsafe_code)]
    fn run(&self, source: &View, out: &mut [u8], out_stride: usize) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[target_feature(enable = "avx2")]
            fn with_avx2(passes: &Passes, source: &View, out: &mut [u8], out_stride: usize) {
                passes.run_plain(source, out, out_stride);
            }
            // SAFETY: the processor has just been asked for AVX2.
            return unsafe { with_avx2(self, source, out, out_stride) };
        }
        self.run_plain(source, out, out_stride);
    }

    #[inline(always)]
    fn run_plain(&self, source: &View, out: &mut [u8], out_stride: usize) {
        let (height, width) = (self.vertical.len(), self.horizontal.len());
        if height == 0 || width == 0 {
            return;
        }
        if self.vertical_first {
            let stride = source.width * 3;
            let mut low = vec![0; height * stride];
            vertical_pass(source, &self.vertical, &mut low, stride);
            let low = View {
                pixels: &low,
                stride,
                height,
                width: source.width,
            };
            horizontal_pass(&low, &self.horizontal, out, out_stride);
        } else {
            let stride = width * 3;
            let mut narrow = vec![0; source.height * stride];
            horizontal_pass(source, &self.horizontal, &mut narrow, stride);
            let narrow = View {
                pixels: &narrow,
                stride,
                height: source.height,
                width,
            };
            vertical_pass(&narrow, &self.vertical, out, out_stride);
        }
    }
}

/// Resizes every row of `source`.
///
/// Takes [`ROWS`] rows at a time and interleaves them, so that one weight multiplies a whole
/// vector: `block[x]` holds the lanes `[channel][row]` of column `x`.
#[inline(always)]
fn horizontal_pass(source: &View, taps: &Taps<i32>, out: &mut [u8], out_stride: usize) {
    let mut block = vec![[0u8; 3 * ROWS]; source.width];
    for (top, out_rows) in (0..source.height)
        .step_by(ROWS)
        .zip(out.chunks_mut(ROWS * out_stride))
    {
        let rows = ROWS.min(source.height - top);
        for lane in 0..rows {
            for (pixel, lanes) in source.row(top + lane).chunks_exact(3).zip(&mut block) {
                lanes[lane] = pixel[0];
                lanes[ROWS + lane] = pixel[1];
                lanes[2 * ROWS + lane] = pixel[2];
            }
        }
        for (x, (first, weights)) in taps.iter().enumerate() {
            let mut sums = [HALF; 3 * ROWS];
            for (&weight, lanes) in weights.iter().zip(&block[first..]) {
                for (sum, &sample) in sums.iter_mut().zip(lanes) {
                    *sum += weight * i32::from(sample);
                }
            }
            for lane in 0..rows {
                let pixel = &mut out_rows[lane * out_stride + x * 3..][..3];
                pixel[0] = round_to_u8(sums[lane]);
                pixel[1] = round_to_u8(sums[ROWS + lane]);
                pixel[2] = round_to_u8(sums[2 * ROWS + lane]);
            }
        }
    }
}

/// Resizes every column of `source`: each output row is a weighted sum of input rows.
#[inline(always)]
fn vertical_pass(source: &View, taps: &Taps<i32>, out: &mut [u8], out_stride: usize) {
    let row_bytes = source.width * 3;
    for ((first, weights), out_row) in taps.iter().zip(out.chunks_mut(out_stride)) {
        let inputs = || source.pixels[first * source.stride..].chunks(source.stride);
        let mut chunks = out_row[..row_bytes].chunks_exact_mut(CHUNK);
        let mut start = 0;
        for chunk in &mut chunks {
            let mut sums = [HALF; CHUNK];
            for (&weight, row) in weights.iter().zip(inputs()) {
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
            let column = inputs().map(|row| i32::from(row[start + x]));
            let sum: i32 = weights
                .iter()
                .zip(column)
                .map(|(weight, sample)| weight * sample)
                .sum();
            *out = round_to_u8(HALF + sum);
        }
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
    assert_eq!(
        src.len(),
        height * width * channels,
        "the table must be {shape:?}"
    );
    assert!(
        src.len() * new_height * new_width > 0,
        "empty table or target"
    );
    let taps = |n_in, n_out| {
        Taps::new(Interpolation::Bicubic, n_in, n_out, 0..n_out).map(|weight| weight as f32)
    };
    let mut narrow = Vec::with_capacity(height * new_width * channels);
    let horizontal = taps(width, new_width);
    for row in src.chunks_exact(width * channels) {
        weighted_rows(row, channels, &horizontal, &mut narrow);
    }
    let mut out = Vec::with_capacity(new_height * new_width * channels);
    weighted_rows(
        &narrow,
        new_width * channels,
        &taps(height, new_height),
        &mut out,
    );
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

#[cfg(test)]
mod tests {
    use super::super::testing::{pattern, read, reference, sha256};
    use super::*;

    fn red_rows(image: &RgbImage) -> Vec<Vec<u8>> {
        image
            .rows()
            .map(|row| row.map(|pixel| pixel.0[0]).collect())
            .collect()
    }

    fn sum(image: &RgbImage) -> u64 {
        image.as_raw().iter().map(|&level| u64::from(level)).sum()
    }

    #[test]
    fn golden_levels_of_a_13_by_9_image() {
        let image = pattern([9, 13]);
        let bicubic = resize(&image, [5, 7], Interpolation::Bicubic);
        let expected: [[u8; 7]; 5] = [
            [68, 130, 112, 133, 100, 109, 124],
            [139, 122, 138, 136, 127, 130, 132],
            [111, 147, 146, 148, 113, 152, 124],
            [104, 106, 126, 163, 116, 140, 142],
            [145, 134, 139, 98, 125, 130, 119],
        ];
        assert_eq!(red_rows(&bicubic), expected);
        assert_eq!(sum(&bicubic), 13518);
        let bilinear = resize(&image, [5, 7], Interpolation::Bilinear);
        let expected: [[u8; 7]; 5] = [
            [76, 124, 114, 135, 102, 109, 126],
            [133, 121, 136, 138, 124, 128, 131],
            [116, 143, 142, 149, 116, 149, 124],
            [104, 111, 128, 157, 118, 136, 142],
            [141, 133, 138, 102, 124, 130, 121],
        ];
        assert_eq!(red_rows(&bilinear), expected);
        assert_eq!(sum(&bilinear), 13517);
    }

    #[test]
    fn golden_sums_of_a_13_by_9_image() {
        let image = pattern([9, 13]);
        for (size, bicubic, bilinear) in [([4, 5], 7731, 7732), ([14, 20], 108079, 107974)] {
            assert_eq!(sum(&resize(&image, size, Interpolation::Bicubic)), bicubic);
            assert_eq!(
                sum(&resize(&image, size, Interpolation::Bilinear)),
                bilinear
            );
        }
    }

    /// Reference: `resizes` of `tests/reference/pixels.py` (Pillow 13.0.0).
    #[test]
    fn every_shape_up_and_down_is_bit_exact_with_pillow() {
        for case in reference("resizes") {
            let image = pattern(read(&case["source"]));
            let out = resize(&image, read(&case["target"]), read(&case["interpolation"]));
            assert_eq!(sha256(&out), case["sha256"], "{case}");
        }
    }

    #[test]
    fn vector_code_agrees_with_plain_code() {
        let image = pattern([41, 67]);
        for vertical_first in [false, true] {
            let taps = |n_in, n_out| {
                Taps::new(Interpolation::Bicubic, n_in, n_out, 0..n_out).map(quantize)
            };
            let passes = Passes {
                vertical: taps(41, 19),
                horizontal: taps(67, 31),
                vertical_first,
            };
            let (mut plain, mut fast) = (vec![0; 19 * 31 * 3], vec![0; 19 * 31 * 3]);
            passes.run_plain(&View::of(&image), &mut plain, 31 * 3);
            passes.run(&View::of(&image), &mut fast, 31 * 3);
            assert_eq!(plain, fast);
        }
    }

    #[test]
    fn a_window_is_a_crop_of_the_whole() {
        let image = pattern([40, 50]);
        let whole = resize(&image, [22, 33], Interpolation::Bicubic);
        let mut window = RgbImage::new(9, 7);
        let area = [5..12, 20..29];
        View::of(&image).resize_window([22, 33], area, Interpolation::Bicubic, &mut window, 27);
        assert_eq!(
            window,
            image::imageops::crop_imm(&whole, 20, 5, 9, 7).to_image()
        );
    }

    #[test]
    fn a_cropped_view_does_not_see_beyond_its_edges() {
        let image = pattern([30, 40]);
        let crop = image::imageops::crop_imm(&image, 7, 4, 20, 11).to_image();
        let mut out = RgbImage::new(8, 6);
        let view = View::of(&image).crop([4, 7], [11, 20]);
        view.resize_window([6, 8], [0..6, 0..8], Interpolation::Bilinear, &mut out, 24);
        assert_eq!(out, resize(&crop, [6, 8], Interpolation::Bilinear));
    }

    /// Reference: `tables` of `tests/reference/pixels.py` (torch 2.15.0).
    #[test]
    fn tables_are_resized_as_torch_does() {
        for case in reference("tables") {
            let shape: [usize; 3] = read(&case["shape"]);
            let table: Vec<f32> = (0..shape.iter().product())
                .map(|i: usize| (i as f32 * 0.7).sin())
                .collect();
            let expected: Vec<f32> = read(&case["values"]);
            let out = resize_f32(&table, shape, read(&case["new_size"]));
            assert_eq!(out.len(), expected.len());
            for (got, want) in out.iter().zip(expected) {
                assert!((got - want).abs() < 2e-6, "{got} is not {want} in {case}");
            }
        }
    }
}
