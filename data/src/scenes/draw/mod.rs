//! From truth to pixels.
//!
//! Only the outline of a shape is left to tiny-skia, which turns it into 8-bit coverage by fixed-point edges; textures
//! and blending are whole numbers here. So pixels are the same on every machine, and fast.

mod backdrop;
mod outline;

use image::RgbImage;
use tiny_skia::{FillRule, Mask, Path, Transform};

use super::{
    dice::Dice,
    scene::{Object, Scene},
    vocabulary::{Colour, Texture},
};

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// Cosine and sine of the tilts: -10, -5, 0, 5 and 10 degrees. Written out, since `sin` differs among machines.
const TILTS: [(f32, f32); 5] = [
    (0.984_807_8, -0.173_648_18),
    (0.996_194_7, -0.087_155_74),
    (1.0, 0.0),
    (0.996_194_7, 0.087_155_74),
    (0.984_807_8, 0.173_648_18),
];

/// Draws a scene on a square image.
pub(super) fn draw(
    scene: &Scene,
    side: u32,
    backdrop: &mut Dice,
    distractors: &mut Dice,
) -> RgbImage {
    let mut canvas = Canvas {
        image: RgbImage::new(side, side),
        side,
    };
    backdrop::paint(&mut canvas, scene.background, backdrop);
    for _ in 0..scene.blobs {
        backdrop::blob(&mut canvas, distractors);
    }
    for _ in 0..scene.lines {
        backdrop::line(&mut canvas, distractors);
    }
    for object in &scene.objects {
        canvas.object(object);
    }
    canvas.image
}

/// An image being drawn. Places are given in thousandths of its side.
struct Canvas {
    image: RgbImage,
    side: u32,
}

impl Canvas {
    fn object(&mut self, object: &Object) {
        let path = outline::of(object.shape);
        let base = rgb(object.colour);
        let edge = base.map(|c| (u16::from(c) * 9 / 20) as u8);
        let place = |scale: f32| self.place(object, scale);

        let window = self.window(object);
        let rim = coverage(path, place(1.0), &window);
        let body = coverage(path, place(outline::body_scale(object.shape)), &window);
        let hole = (object.texture == Texture::Outlined)
            .then(|| coverage(path, place(outline::hole_scale(object.shape)), &window));

        let pattern = Pattern::new(object, base, self.side);
        for (i, (x, y)) in window.pixels().enumerate() {
            if rim.data()[i] == 0 {
                continue;
            }
            let pixel = &mut self.image.get_pixel_mut(x, y).0;
            let behind = *pixel;
            mix(pixel, edge, rim.data()[i]);
            mix(pixel, pattern.at(x, y), body.data()[i]);
            if let Some(hole) = &hole {
                mix(pixel, behind, hole.data()[i]);
            }
        }
    }

    fn place(&self, object: &Object, scale: f32) -> Transform {
        let side = self.side as f32 / 1000.0;
        let (cos, sin) = TILTS[object.tilt];
        let r = object.radius as f32 * side * scale;
        let [x, y] = object.center.map(|c| c as f32 * side);
        Transform::from_row(r * cos, r * sin, -r * sin, r * cos, x, y)
    }

    /// The pixels that an object may touch.
    fn window(&self, object: &Object) -> Window {
        // Corners of a tilted shape reach a little past its radius.
        let reach = object.radius * 112 / 100;
        let pixel = |permille: i32| (permille.clamp(0, 1000) as u32) * self.side / 1000;
        let [left, top] = object.center.map(|c| pixel(c - reach));
        let [right, bottom] = object.center.map(|c| (pixel(c + reach) + 1).min(self.side));
        Window {
            left,
            top,
            width: right - left,
            height: bottom - top,
        }
    }
}

/// A rectangle of pixels.
struct Window {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Window {
    fn pixels(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let (left, right) = (self.left, self.left + self.width);
        (self.top..self.top + self.height).flat_map(move |y| (left..right).map(move |x| (x, y)))
    }
}

/// How far each pixel of a window lies within a path, 0 to 255.
fn coverage(path: &Path, place: Transform, window: &Window) -> Mask {
    let mut mask = Mask::new(window.width, window.height).expect("a window has pixels");
    let place = place.post_translate(-(window.left as f32), -(window.top as f32));
    mask.fill_path(path, FillRule::Winding, true, place);
    mask
}

/// Moves a pixel towards a colour by `share` / 255.
fn mix(pixel: &mut Rgb, colour: Rgb, share: u8) {
    let share = u16::from(share);
    for (below, above) in pixel.iter_mut().zip(colour) {
        *below = ((u16::from(*below) * (255 - share) + u16::from(above) * share + 127) / 255) as u8;
    }
}

fn rgb(colour: Colour) -> Rgb {
    match colour {
        Colour::Red => [217, 30, 36],
        Colour::Green => [24, 150, 62],
        Colour::Blue => [32, 84, 222],
        Colour::Yellow => [250, 218, 30],
        Colour::Purple => [128, 44, 176],
        Colour::Orange => [250, 128, 14],
        Colour::Pink => [250, 120, 184],
        Colour::Brown => [118, 68, 30],
    }
}

/// The filling of an object: its own colour and a pale one.
struct Pattern {
    texture: Texture,
    base: Rgb,
    pale: Rgb,
    /// Width of a stripe, a dot or a check in 1/16 pixel.
    unit: i32,
    center: [i32; 2],
}

impl Pattern {
    fn new(object: &Object, base: Rgb, side: u32) -> Self {
        let side = side as i32;
        // Never finer than 2 pixels, and a little finer on small objects, which must show two repeats.
        let unit = (side * 16 * (14 + object.radius / 8) / 1000).max(32);
        // Dots are set wider apart, or they would look like checks.
        let unit = if object.texture == Texture::Dotted {
            unit * 6 / 5
        } else {
            unit
        };
        Self {
            texture: object.texture,
            base,
            pale: base.map(|c| c + (255 - c) / 5 * 4),
            unit,
            center: object.center.map(|c| c * side * 16 / 1000),
        }
    }

    fn at(&self, x: u32, y: u32) -> Rgb {
        let dx = x as i32 * 16 + 8 - self.center[0];
        let dy = y as i32 * 16 + 8 - self.center[1];
        let odd = |along: i32| along.div_euclid(self.unit).rem_euclid(2) == 1;
        let pale = match self.texture {
            Texture::Plain | Texture::Outlined => false,
            Texture::Striped => odd(dy + self.unit / 2),
            Texture::Checkered => odd(dx) != odd(dy),
            Texture::Dotted => {
                // Dots sit on a grid two units wide; every other row is moved by half.
                let step = 2 * self.unit;
                let row = (dy + self.unit).div_euclid(step);
                let shift = if row % 2 == 0 { self.unit } else { 0 };
                let ex = (dx + shift).rem_euclid(step) - self.unit;
                let ey = (dy + self.unit).rem_euclid(step) - self.unit;
                let radius = self.unit * 7 / 11;
                ex * ex + ey * ey < radius * radius
            }
        };
        if pale { self.pale } else { self.base }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::{Scenes, ScenesConfig, Split};
    use super::*;

    #[test]
    fn mixing_keeps_its_ends() {
        let mut pixel = [10, 20, 30];
        mix(&mut pixel, [200, 100, 0], 0);
        assert_eq!(pixel, [10, 20, 30]);
        mix(&mut pixel, [200, 100, 0], 255);
        assert_eq!(pixel, [200, 100, 0]);
    }

    #[test]
    fn the_main_object_shows_its_colour_at_any_size() {
        for image_size in [32, 64, 224] {
            let world = Scenes::new(ScenesConfig {
                image_size,
                ..Default::default()
            })
            .unwrap();
            for index in 0..40 {
                let scene = world.scene(Split::Train, index);
                let image = world.image(Split::Train, index);
                let colour = rgb(scene.main().colour);
                // Borders are mixed with the background, so a pixel need not have the colour exactly.
                let near = |pixel: &image::Rgb<u8>| {
                    pixel.0.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 45)
                };
                let shown = image.pixels().filter(|pixel| near(pixel)).count();
                let share = shown as f64 / f64::from(image_size * image_size);
                assert!(share > 0.008, "{index} at {image_size}: {share}");
            }
        }
    }

    #[test]
    fn textures_of_one_object_differ_in_many_pixels_at_64() {
        let world = Scenes::new(ScenesConfig::default()).unwrap();
        for index in 0..20 {
            let scene = world.scene(Split::Train, index);
            let mut images = HashSet::new();
            for texture in [
                Texture::Plain,
                Texture::Striped,
                Texture::Dotted,
                Texture::Checkered,
                Texture::Outlined,
            ] {
                let mut scene = scene.clone();
                scene.objects.truncate(1);
                scene.objects[0].texture = texture;
                images.insert(world.draw(&scene, Split::Train, index).into_raw());
            }
            assert_eq!(images.len(), 5);
            let images: Vec<_> = images.into_iter().collect();
            for (i, one) in images.iter().enumerate() {
                for other in &images[..i] {
                    let different = one
                        .chunks(3)
                        .zip(other.chunks(3))
                        .filter(|(a, b)| a != b)
                        .count();
                    assert!(different >= 20, "{index}: only {different} pixels");
                }
            }
        }
    }
}
