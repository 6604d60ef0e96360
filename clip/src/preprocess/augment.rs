//! open_clip's training transform: random crop, colour jitter, grayscale.

use image::RgbImage;
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::color::{
    adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale,
};
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
            return Err(PreprocessConfigError { field: "size", value, expected: "above zero" });
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
        if self.config.gray_scale_prob.is_some_and(|prob| rng.random_bool(prob)) {
            grayscale(&mut out);
        }
        out
    }
}

impl AugmentConfig {
    fn check(&self) -> Result<(), PreprocessConfigError> {
        let refuse = |field, value: String, expected| {
            Err(PreprocessConfigError { field, value, expected })
        };
        let [low, high] = self.scale;
        if !(0.0 < low && low <= high && high <= 1.0) {
            return refuse("scale", format!("{:?}", self.scale), "[low, high] in (0, 1]");
        }
        if let Some([low, high]) = self.ratio
            && !(0.0 < low && low <= high && high.is_finite())
        {
            return refuse("ratio", format!("{:?}", [low, high]), "[low, high] above zero");
        }
        if let Some(jitter) = self.color_jitter
            && !(jitter.iter().all(|x| x.is_finite() && *x >= 0.0) && jitter[3] <= 0.5)
        {
            let expected = "four strengths of at least 0, the last (hue) at most 0.5";
            return refuse("color_jitter", format!("{jitter:?}"), expected);
        }
        if self.color_jitter_prob.is_some_and(|prob| prob > 0.0) && self.color_jitter.is_none() {
            return refuse("color_jitter", "absent".into(), "four strengths, as its prob is set");
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
        let crop = [round((crop_area / aspect).sqrt()), round((crop_area * aspect).sqrt())];
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
