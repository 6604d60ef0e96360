//! Colour changes of the training augmentation, as torchvision applies them to PIL images.
//!
//! All work on `u8` and round as Pillow does, so a given factor gives Pillow's bytes.

use image::RgbImage;

/// Scales all levels; 0 is black, 1 leaves the image alone (`ImageEnhance.Brightness`).
pub fn adjust_brightness(image: &mut RgbImage, factor: f32) {
    for level in image.iter_mut() {
        *level = blend(0, *level, factor);
    }
}

/// Moves all levels from the mean gray; 0 is flat gray, 1 leaves the image alone
/// (`ImageEnhance.Contrast`).
pub fn adjust_contrast(image: &mut RgbImage, factor: f32) {
    let sum: u64 = image.pixels().map(|pixel| u64::from(luma(pixel.0))).sum();
    let count = u64::from(image.width()) * u64::from(image.height());
    let mean = (sum as f64 / count.max(1) as f64 + 0.5) as u8;
    for level in image.iter_mut() {
        *level = blend(mean, *level, factor);
    }
}

/// Moves all colours from their gray; 0 is grayscale, 1 leaves the image alone
/// (`ImageEnhance.Color`).
pub fn adjust_saturation(image: &mut RgbImage, factor: f32) {
    for pixel in image.pixels_mut() {
        let gray = luma(pixel.0);
        pixel.0 = pixel.0.map(|level| blend(gray, level, factor));
    }
}

/// Turns the hue by `shift` of a full circle, from −0.5 to 0.5 (torchvision's `adjust_hue`).
pub fn adjust_hue(image: &mut RgbImage, shift: f64) {
    let steps = (shift * 255.0) as i32 as u8; // wraps, as the reference does
    for pixel in image.pixels_mut() {
        let [h, s, v] = rgb_to_hsv(pixel.0);
        pixel.0 = hsv_to_rgb([h.wrapping_add(steps), s, v]);
    }
}

/// Replaces every colour by its gray.
pub fn grayscale(image: &mut RgbImage) {
    for pixel in image.pixels_mut() {
        pixel.0 = [luma(pixel.0); 3];
    }
}

/// ITU-R 601 luma in 16-bit fixed point (PIL's `convert("L")`).
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}

/// PIL's `Image.blend` of two levels: truncates, and clips when `factor` extrapolates.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)) as u8 // the conversion saturates and drops the fraction
}

/// PIL's `convert("HSV")`, all three on 0..=255.
fn rgb_to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return [0, 0, max];
    }
    let spread = f32::from(max - min);
    let [rc, gc, bc] = [r, g, b].map(|level| f32::from(max - level) / spread);
    let sextant = if r == max {
        bc - gc
    } else if g == max {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(sextant) / 6.0 + 1.0) % 1.0) as f32;
    let saturation = spread / f32::from(max);
    [
        (f64::from(hue) * 255.0) as u8,
        (f64::from(saturation) * 255.0) as u8,
        max,
    ]
}

/// PIL's conversion back from HSV.
fn hsv_to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let turn = f64::from(h) * 6.0 / 255.0;
    let sextant = turn.floor();
    let f = f64::from((turn - sextant) as f32);
    let s = f64::from((f64::from(s) / 255.0) as f32);
    let level = |x: f64| (f64::from(v) * x).round() as u8;
    let (p, q, t) = (
        level(1.0 - s),
        level(1.0 - s * f),
        level(1.0 - s * (1.0 - f)),
    );
    match sextant as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{pattern, read, reference, sha256};
    use super::*;

    /// Reference: `colors` of `tests/reference/pixels.py` (torchvision 0.29.2 on Pillow 13.0.0).
    #[test]
    fn every_change_is_bit_exact_with_torchvision() {
        for case in reference("colors") {
            let mut image = pattern([120, 160]);
            let factor: f64 = read(&case["factor"]);
            match read::<String>(&case["op"]).as_str() {
                "brightness" => adjust_brightness(&mut image, factor as f32),
                "contrast" => adjust_contrast(&mut image, factor as f32),
                "saturation" => adjust_saturation(&mut image, factor as f32),
                "hue" => adjust_hue(&mut image, factor),
                "grayscale" => grayscale(&mut image),
                other => panic!("no such change: {other}"),
            }
            assert_eq!(sha256(&image), case["sha256"], "{case}");
        }
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        for change in [adjust_brightness, adjust_contrast, adjust_saturation] {
            let mut image = pattern([20, 30]);
            change(&mut image, 1.0);
            assert_eq!(image, pattern([20, 30]));
        }
    }
}
