//! open_clip's training transform: random crop, colour jitter, grayscale.

use image::RgbImage;
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale};
use super::resize::View;
use super::{Interpolation, PreprocessConfigError};

/// Tries to find a crop of the wanted area and aspect before the centre is taken.
const CROP_TRIES: usize = 10;

/// Training augmentation, with open_clip's names (`--aug-cfg`). An unknown key is refused.
///
/// Beyond open_clip: `ratio` is honoured, and `interpolation` and `hflip_prob` exist because other
/// training recipes use them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Range of the crop's share of the image area.
    pub scale: [f64; 2],
    /// Range of the crop's width over its height; 3/4 to 4/3 if absent.
    pub ratio: Option<[f64; 2]>,
    /// Strength of brightness, contrast, saturation and hue jitter.
    pub color_jitter: Option<[f64; 4]>,
    /// Share of images that are jittered; absent means none.
    pub color_jitter_prob: Option<f64>,
    /// Share of images that lose their colours; absent means none.
    pub gray_scale_prob: Option<f64>,
    /// Resampling filter of the crop.
    pub interpolation: Interpolation,
    /// Share of images that are mirrored left to right.
    pub hflip_prob: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            scale: [0.9, 1.0],
            ratio: None,
            color_jitter: None,
            color_jitter_prob: None,
            gray_scale_prob: None,
            interpolation: Interpolation::Bicubic,
            hflip_prob: 0.0,
        }
    }
}

/// The training transform: everything random comes from the generator that is passed in.
#[derive(Debug, Clone)]
pub struct Augment {
    config: AugmentConfig,
    size: [usize; 2],
}

impl Augment {
    /// The transform that `config` describes, to images of `size` (height, width).
    ///
    /// # Errors
    ///
    /// A range or probability that makes no sense; the error names the field.
    pub fn new(config: AugmentConfig, size: [usize; 2]) -> Result<Self, PreprocessConfigError> {
        config.check()?;
        if size.contains(&0) {
            let value = format!("{size:?}");
            return Err(PreprocessConfigError {
                field: "size",
                value,
                expected: "above zero",
            });
        }
        Ok(Self { config, size })
    }

    /// What this transform was made from.
    pub fn config(&self) -> &AugmentConfig {
        &self.config
    }

    /// Crops, resizes and recolours one image.
    ///
    /// # Panics
    ///
    /// Panics if the image has a side of zero; decoded images have none.
    pub fn apply(&self, image: &RgbImage, rng: &mut impl Rng) -> RgbImage {
        let [height, width] = self.size;
        let view = View::of(image);
        let ratio = self.config.ratio.unwrap_or([3.0 / 4.0, 4.0 / 3.0]);
        let (corner, crop) = random_crop([view.height, view.width], self.config.scale, ratio, rng);
        let mut out = RgbImage::new(width as u32, height as u32);
        view.crop(corner, crop).resize_window(
            self.size,
            [0..height, 0..width],
            self.config.interpolation,
            &mut out,
            width * 3,
        );
        if rng.random_bool(self.config.hflip_prob) {
            image::imageops::flip_horizontal_in_place(&mut out);
        }
        if let (Some(prob), Some(strength)) =
            (self.config.color_jitter_prob, self.config.color_jitter)
            && rng.random_bool(prob)
        {
            color_jitter(&mut out, strength, rng);
        }
        if self
            .config
            .gray_scale_prob
            .is_some_and(|prob| rng.random_bool(prob))
        {
            grayscale(&mut out);
        }
        out
    }
}

impl AugmentConfig {
    fn check(&self) -> Result<(), PreprocessConfigError> {
        let refuse = |field, value: String, expected| {
            Err(PreprocessConfigError {
                field,
                value,
                expected,
            })
        };
        let [low, high] = self.scale;
        if !(0.0 < low && low <= high && high <= 1.0) {
            return refuse(
                "scale",
                format!("{:?}", self.scale),
                "[low, high] in (0, 1]",
            );
        }
        if let Some([low, high]) = self.ratio
            && !(0.0 < low && low <= high && high.is_finite())
        {
            return refuse(
                "ratio",
                format!("{:?}", [low, high]),
                "[low, high] above zero",
            );
        }
        if let Some(jitter) = self.color_jitter
            && !(jitter.iter().all(|x| x.is_finite() && *x >= 0.0) && jitter[3] <= 0.5)
        {
            let expected = "four strengths of at least 0, the last (hue) at most 0.5";
            return refuse("color_jitter", format!("{jitter:?}"), expected);
        }
        if self.color_jitter_prob.is_some_and(|prob| prob > 0.0) && self.color_jitter.is_none() {
            return refuse(
                "color_jitter",
                "absent".into(),
                "four strengths, as its prob is set",
            );
        }
        for (field, prob) in [
            ("color_jitter_prob", self.color_jitter_prob.unwrap_or(0.0)),
            ("gray_scale_prob", self.gray_scale_prob.unwrap_or(0.0)),
            ("hflip_prob", self.hflip_prob),
        ] {
            if !(0.0..=1.0).contains(&prob) {
                return refuse(field, prob.to_string(), "a probability from 0 to 1");
            }
        }
        Ok(())
    }
}

/// Corner (top, left) and size (height, width) of torchvision's `RandomResizedCrop`: area uniform
/// in `scale`, aspect ratio log-uniform in `ratio`, else the largest centre crop within `ratio`.
fn random_crop(
    [height, width]: [usize; 2],
    scale: [f64; 2],
    ratio: [f64; 2],
    rng: &mut impl Rng,
) -> ([usize; 2], [usize; 2]) {
    let round = |x: f64| x.round_ties_even() as usize;
    let area = height as f64 * width as f64;
    for _ in 0..CROP_TRIES {
        let crop_area = area * rng.random_range(scale[0]..=scale[1]);
        let aspect = rng.random_range(ratio[0].ln()..=ratio[1].ln()).exp();
        let crop = [
            round((crop_area / aspect).sqrt()),
            round((crop_area * aspect).sqrt()),
        ];
        if (1..=height).contains(&crop[0]) && (1..=width).contains(&crop[1]) {
            let top = rng.random_range(0..=height - crop[0]);
            let left = rng.random_range(0..=width - crop[1]);
            return ([top, left], crop);
        }
    }
    let aspect = width as f64 / height as f64;
    let crop = if aspect < ratio[0] {
        [round(width as f64 / ratio[0]).min(height), width]
    } else if aspect > ratio[1] {
        [height, round(height as f64 * ratio[1]).min(width)]
    } else {
        [height, width]
    }
    .map(|side| side.max(1));
    ([(height - crop[0]) / 2, (width - crop[1]) / 2], crop)
}

/// Brightness, contrast, saturation and hue changes in random order (torchvision's `ColorJitter`).
fn color_jitter(image: &mut RgbImage, strength: [f64; 4], rng: &mut impl Rng) {
    let mut order = [0, 1, 2, 3];
    order.shuffle(rng);
    let [brightness, contrast, saturation] = [strength[0], strength[1], strength[2]]
        .map(|x| rng.random_range((1.0 - x).max(0.0)..=1.0 + x) as f32);
    let hue = rng.random_range(-strength[3]..=strength[3]);
    for op in order {
        match op {
            0 => adjust_brightness(image, brightness),
            1 => adjust_contrast(image, contrast),
            2 => adjust_saturation(image, saturation),
            // Even a shift of zero is not free of loss, and the reference skips it.
            _ if strength[3] == 0.0 => {}
            _ => adjust_hue(image, hue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::resize;
    use super::super::testing::pattern;
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn clipa() -> AugmentConfig {
        serde_json::from_str(
            r#"{"scale": [0.4, 1.0], "color_jitter": [0.32, 0.32, 0.32, 0.08],
                "color_jitter_prob": 0.8, "gray_scale_prob": 0.2}"#,
        )
        .unwrap()
    }

    fn apply(config: AugmentConfig, seed: u64) -> RgbImage {
        let augment = Augment::new(config, [16, 16]).unwrap();
        augment.apply(&pattern([40, 60]), &mut ChaCha8Rng::seed_from_u64(seed))
    }

    #[test]
    fn the_same_generator_gives_the_same_image() {
        assert_eq!(apply(clipa(), 7), apply(clipa(), 7));
        assert_ne!(apply(clipa(), 7), apply(clipa(), 8));
    }

    #[test]
    fn crops_stay_inside_and_within_the_ranges() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (scale, ratio) = ([0.1, 0.5], [0.75, 4.0 / 3.0]);
        let mut areas = Vec::new();
        for _ in 0..2000 {
            let ([top, left], [height, width]) = random_crop([400, 400], scale, ratio, &mut rng);
            assert!(top + height <= 400 && left + width <= 400);
            let aspect = width as f64 / height as f64;
            assert!((0.73..1.36).contains(&aspect), "{aspect}");
            areas.push((height * width) as f64 / 160_000.0);
        }
        assert!(areas.iter().all(|area| (0.09..0.51).contains(area)));
        let mean = areas.iter().sum::<f64>() / areas.len() as f64;
        assert!((mean - 0.3).abs() < 0.02, "{mean}");
    }

    #[test]
    fn an_impossible_aspect_falls_back_to_the_centre() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let crop = |size, rng: &mut _| random_crop(size, [0.9, 1.0], [0.75, 4.0 / 3.0], rng);
        assert_eq!(crop([10, 20_000], &mut rng), ([0, 9993], [10, 13]));
        assert_eq!(crop([20_000, 10], &mut rng), ([9993, 0], [13, 10]));
        assert_eq!(crop([1, 1], &mut rng), ([0, 0], [1, 1]));
    }

    #[test]
    fn without_randomness_it_is_a_plain_resize() {
        let config = AugmentConfig {
            scale: [1.0, 1.0],
            ratio: Some([1.5, 1.5]),
            interpolation: Interpolation::Bilinear,
            ..Default::default()
        };
        let expected = resize(&pattern([40, 60]), [16, 16], Interpolation::Bilinear);
        assert_eq!(apply(config.clone(), 1), expected);
        let mirrored = apply(
            AugmentConfig {
                hflip_prob: 1.0,
                ..config.clone()
            },
            1,
        );
        assert_eq!(mirrored, image::imageops::flip_horizontal(&expected));
        let gray = apply(
            AugmentConfig {
                gray_scale_prob: Some(1.0),
                ..config
            },
            1,
        );
        assert!(
            gray.pixels()
                .all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2])
        );
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        for (field, json) in [
            ("scale", r#"{"scale": [0.9, 0.5]}"#),
            ("ratio", r#"{"ratio": [0.0, 1.0]}"#),
            ("color_jitter", r#"{"color_jitter_prob": 0.8}"#),
            ("color_jitter", r#"{"color_jitter": [0.1, 0.1, 0.1, 0.6]}"#),
            ("gray_scale_prob", r#"{"gray_scale_prob": 1.5}"#),
            ("hflip_prob", r#"{"hflip_prob": -1.0}"#),
        ] {
            let config = serde_json::from_str(json).unwrap();
            let error = Augment::new(config, [16, 16]).unwrap_err();
            assert_eq!(error.field, field);
        }
        let error = serde_json::from_str::<AugmentConfig>(r#"{"mixup": 0.1}"#).unwrap_err();
        assert!(error.to_string().contains("mixup"));
    }
}
