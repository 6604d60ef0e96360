//! The evaluation transform: resize, then crop or pad around the centre, as torchvision and
//! open_clip do.

use std::ops::Range;

use image::RgbImage;

use super::resize::View;
use super::{CropRounding, Interpolation, PreprocessConfig, ResizeMode};

/// Prepares images for a checkpoint's vision tower.
#[derive(Debug, Clone)]
pub struct Preprocess {
    config: PreprocessConfig,
}

impl Preprocess {
    /// The evaluation transform that `config` describes.
    pub fn new(config: PreprocessConfig) -> Self {
        Self { config }
    }

    /// What this transform was made from.
    pub fn config(&self) -> &PreprocessConfig {
        &self.config
    }

    /// Resizes and crops one image to exactly the configured size.
    ///
    /// # Panics
    ///
    /// Panics if the image has a side of zero; decoded images have none.
    pub fn apply(&self, image: &RgbImage) -> RgbImage {
        let [height, width] = self.config.size;
        let mut out = RgbImage::new(width as u32, height as u32);
        self.apply_into(image, &mut out);
        out
    }

    /// [`Preprocess::apply`] into `size[0] * size[1] * 3` bytes of a batch.
    pub(super) fn apply_into(&self, image: &RgbImage, out: &mut [u8]) {
        let [height, width] = self.config.size;
        let view = View::of(image);
        let resized = self.resized([view.height, view.width]);
        let rows = Placement::new(resized[0], height, self.config.crop_rounding);
        let columns = Placement::new(resized[1], width, self.config.crop_rounding);
        if rows.is_padded() || columns.is_padded() {
            out.fill(self.config.fill_color);
        }
        let corner = (rows.at * width + columns.at) * 3;
        view.resize_window(
            resized,
            [rows.kept, columns.kept],
            self.interpolation(),
            &mut out[corner..],
            width * 3,
        );
    }

    /// Height and width after the resize, before crop and padding.
    fn resized(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let [target_height, target_width] = self.config.size;
        let ratios = [
            height as f64 / target_height as f64,
            width as f64 / target_width as f64,
        ];
        let divide = |ratio: f64| {
            [height, width].map(|side| ((side as f64 / ratio).round_ties_even() as usize).max(1))
        };
        match self.config.resize_mode {
            ResizeMode::Squash => self.config.size,
            ResizeMode::Longest => divide(ratios[0].max(ratios[1])),
            ResizeMode::Shortest
                if target_height != target_width && self.config.shortest_edge.is_none() =>
            {
                divide(ratios[0].min(ratios[1]))
            }
            // Resize of torchvision and transformers truncates the longer side instead of rounding it.
            ResizeMode::Shortest => {
                let edge = self.config.shortest_edge.unwrap_or(target_height);
                let short = height.min(width);
                [height, width].map(|side| edge * side / short)
            }
        }
    }

    /// open_clip's transform to a size that is not square always resizes bicubic.
    fn interpolation(&self) -> Interpolation {
        let [height, width] = self.config.size;
        match self.config.resize_mode {
            ResizeMode::Shortest if height != width && self.config.shortest_edge.is_none() => {
                Interpolation::Bicubic
            }
            _ => self.config.interpolation,
        }
    }
}

/// Where the resized image lies in the output, along one axis.
struct Placement {
    /// The part of the resized image that is kept.
    kept: Range<usize>,
    /// Where it begins in the output.
    at: usize,
    target: usize,
}

impl Placement {
    fn new(resized: usize, target: usize, rounding: CropRounding) -> Self {
        if resized < target {
            return Self {
                kept: 0..resized,
                at: (target - resized) / 2,
                target,
            };
        }
        let start = match rounding {
            // Python's `round`.
            CropRounding::Even => ((resized - target) as f64 / 2.0).round_ties_even() as usize,
            CropRounding::Down => (resized - target) / 2,
        };
        Self {
            kept: start..start + target,
            at: 0,
            target,
        }
    }

    fn is_padded(&self) -> bool {
        self.kept.len() < self.target
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{pattern, read, reference, sha256};
    use super::*;

    #[test]
    fn crop_offsets_round_half_to_even_or_down() {
        let offsets = |rounding| -> Vec<usize> {
            let start = |d: usize| Placement::new(224 + d, 224, rounding).kept.start;
            (0..8).map(start).collect()
        };
        assert_eq!(offsets(CropRounding::Even), [0, 0, 1, 2, 2, 2, 3, 4]);
        assert_eq!(offsets(CropRounding::Down), [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn padding_puts_the_odd_pixel_at_the_end() {
        let placement = Placement::new(5, 8, CropRounding::Even);
        assert_eq!((placement.at, placement.kept), (1, 0..5));
    }

    /// Reference: `transforms` of `tests/reference/pixels.py` (open_clip_torch 3.3.0).
    #[test]
    fn every_mode_size_and_filter_is_bit_exact_with_open_clip() {
        for case in reference("transforms") {
            let preprocess = Preprocess::new(read(&case["config"]));
            let out = preprocess.apply(&pattern(read(&case["source"])));
            assert_eq!(sha256(&out), case["sha256"], "{case}");
        }
    }

    #[test]
    fn extreme_shapes_become_the_models_shape() {
        for resize_mode in [
            ResizeMode::Shortest,
            ResizeMode::Longest,
            ResizeMode::Squash,
        ] {
            let config = PreprocessConfig {
                resize_mode,
                ..Default::default()
            };
            let preprocess = Preprocess::new(config);
            for shape in [[1, 1], [10, 20_000], [20_000, 10], [1, 65_535]] {
                let out = preprocess.apply(&pattern(shape));
                assert_eq!(out.dimensions(), (224, 224));
            }
        }
    }
}
