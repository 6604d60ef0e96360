//! Filter weights of Pillow's antialiased resize (`ImagingResample`), shared by the `u8` and the
//! `f32` resize.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Resampling filter. The filter is widened when an image shrinks, so nothing aliases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Keys' cubic with a = −0.5. open_clip's `random` means this outside training.
    #[default]
    #[serde(alias = "random")]
    Bicubic,
    /// Triangle.
    Bilinear,
}

impl Interpolation {
    /// Half the width of the kernel, in pixels of the smaller image.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    fn kernel(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bilinear if x < 1.0 => 1.0 - x,
            _ => 0.0,
        }
    }
}

/// For every output position of one axis: which inputs it reads, with which weights.
#[derive(Debug)]
pub(super) struct Taps<W> {
    /// First input and number of inputs per output.
    spans: Vec<(usize, usize)>,
    /// `stride` weights per output, of which the first `spans[j].1` count.
    weights: Vec<W>,
    stride: usize,
}

impl Taps<f64> {
    /// Weights that resize `n_in` samples to `n_out`, for the outputs in `window` alone.
    pub fn new(
        interpolation: Interpolation,
        n_in: usize,
        n_out: usize,
        window: Range<usize>,
    ) -> Self {
        let scale = n_in as f64 / n_out as f64;
        let widening = scale.max(1.0);
        let support = interpolation.support() * widening;
        let stride = support.ceil() as usize * 2 + 1;
        let mut spans = Vec::with_capacity(window.len());
        let mut weights = vec![0.0; window.len() * stride];
        for (j, row) in window.zip(weights.chunks_exact_mut(stride)) {
            let centre = (j as f64 + 0.5) * scale;
            // Float to integer conversion saturates, which is Pillow's `max(.., 0)`.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(n_in);
            let row = &mut row[..end - first];
            for (x, weight) in row.iter_mut().enumerate() {
                let distance = (x + first) as f64 - centre + 0.5;
                *weight = interpolation.kernel(distance * (1.0 / widening));
            }
            let sum: f64 = row.iter().sum();
            if sum != 0.0 {
                row.iter_mut().for_each(|weight| *weight /= sum);
            }
            spans.push((first, row.len()));
        }
        Self {
            spans,
            weights,
            stride,
        }
    }

    /// The same taps with every weight converted.
    pub fn map<W>(self, convert: impl Fn(f64) -> W) -> Taps<W> {
        let weights = self.weights.into_iter().map(convert).collect();
        Taps {
            spans: self.spans,
            weights,
            stride: self.stride,
        }
    }
}

impl<W> Taps<W> {
    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Per output: the first input it reads, and one weight for this and each following input.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[W])> {
        let rows = self.weights.chunks_exact(self.stride);
        self.spans
            .iter()
            .zip(rows)
            .map(|(&(first, count), row)| (first, &row[..count]))
    }

    /// Counts inputs from the first one that is read at all; returns the range of those read.
    pub fn rebase(&mut self) -> Range<usize> {
        let start = self.spans.first().map_or(0, |span| span.0);
        let end = self.spans.last().map_or(0, |span| span.0 + span.1);
        self.spans.iter_mut().for_each(|span| span.0 -= start);
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_stay_inside_the_input() {
        for interpolation in [Interpolation::Bicubic, Interpolation::Bilinear] {
            for (n_in, n_out) in [(1, 5), (5, 1), (13, 7), (7, 13), (1000, 3), (3, 1000)] {
                let taps = Taps::new(interpolation, n_in, n_out, 0..n_out);
                assert_eq!(taps.len(), n_out);
                for (first, weights) in taps.iter() {
                    assert!(first + weights.len() <= n_in);
                    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn an_unchanged_size_is_the_identity() {
        for (j, (first, weights)) in Taps::new(Interpolation::Bicubic, 9, 9, 0..9)
            .iter()
            .enumerate()
        {
            for (x, &weight) in weights.iter().enumerate() {
                assert_eq!(weight, f64::from(u8::from(first + x == j)));
            }
        }
    }

    #[test]
    fn a_window_has_the_weights_of_the_whole() {
        let whole = Taps::new(Interpolation::Bicubic, 50, 20, 0..20);
        let mut window = Taps::new(Interpolation::Bicubic, 50, 20, 5..9);
        assert!(whole.iter().skip(5).take(4).eq(window.iter()));
        let first = whole.iter().nth(5).unwrap().0;
        assert_eq!(window.rebase().start, first);
        assert_eq!(window.iter().next().unwrap().0, 0);
    }
}
