//! Backgrounds and the clutter on them. Details live on a grid of 64 x 64 dots, whatever the size of the image.

use super::{Canvas, Rgb, mix};
use crate::scenes::{dice::Dice, vocabulary::Background};

/// Dots along a side.
const GRID: u32 = 64;

/// Fills the whole canvas.
pub(super) fn paint(canvas: &mut Canvas, background: Background, dice: &mut Dice) {
    let salt = dice.below(1 << 30) as u32;
    let light = dice.between(-9, 9) as i16;
    let side = canvas.side;
    let mut dots = vec![[0; 3]; (GRID * GRID) as usize];
    for (i, dot) in dots.iter_mut().enumerate() {
        let shade = dot_of(background, i as u32 % GRID, i as u32 / GRID, salt);
        *dot = shade.map(|c| (i16::from(c) + light).clamp(0, 255) as u8);
    }
    let dot_at: Vec<usize> = (0..side).map(|i| (i * GRID / side) as usize).collect();
    for (x, y, pixel) in canvas.image.enumerate_pixels_mut() {
        pixel.0 = dots[dot_at[y as usize] * GRID as usize + dot_at[x as usize]];
    }
    if background == Background::Sky {
        (0..3).for_each(|_| cloud(canvas, dice));
    }
}

/// A whole number that looks random, of a place.
fn hash(x: u32, y: u32, salt: u32) -> u32 {
    let mut h = (x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77)).wrapping_add(salt);
    h ^= h >> 15;
    h = h.wrapping_mul(0x2C1B_3C6D);
    h ^ h >> 13
}

fn dot_of(background: Background, x: u32, y: u32, salt: u32) -> Rgb {
    let grain = hash(x, y, salt);
    match background {
        Background::Snow if grain.is_multiple_of(23) => [208, 222, 236],
        Background::Snow => [238, 242, 247],
        Background::Sand => {
            // Wind ripples: rows that wander up and down.
            let bend = [0, 1, 2, 2, 1, 0, 0, 0][((x + salt) / 4 % 8) as usize];
            let ripple = if (y + bend + salt).is_multiple_of(11) {
                18
            } else {
                0
            };
            let speck = (grain % 10) as u8;
            [
                233 - ripple - speck,
                214 - ripple - speck,
                172 - ripple - speck,
            ]
        }
        // Blades of grass, three dots high.
        Background::Grass if hash(x, (y + x * 2) / 3, salt).is_multiple_of(5) => [146, 184, 118],
        Background::Grass => [174, 206, 146],
        Background::Sky => {
            let fade = y / 2;
            [160 + fade as u8, 204 + fade as u8, 242 + fade as u8 / 4]
        }
        Background::Night if grain.is_multiple_of(61) => [222, 220, 180],
        Background::Night => [24 + (y / 4) as u8, 28 + (y / 4) as u8, 58 + (y / 3) as u8],
        Background::Brick => {
            let row = (y + salt) / 8;
            let mortar = (y + salt).is_multiple_of(8) || (x + row % 2 * 8).is_multiple_of(16);
            let tint = (hash((x + row % 2 * 8) / 16, row, salt) % 14) as u8;
            if mortar {
                [218, 210, 204]
            } else {
                [186 - tint, 166 - tint, 158 - tint]
            }
        }
    }
}

fn cloud(canvas: &mut Canvas, dice: &mut Dice) {
    let [x, y] = [dice.between(50, 950), dice.between(50, 950)];
    for (dx, radius) in [(-75, 60), (0, 85), (75, 60)] {
        puff(canvas, [x + dx, y], radius, [252, 253, 255], 255);
    }
}

/// A tone a little lighter or darker than most backgrounds.
fn faint(dice: &mut Dice) -> Rgb {
    *dice.pick(&[[96, 96, 100], [150, 150, 150], [225, 225, 220]])
}

/// A blurry blob.
pub(super) fn blob(canvas: &mut Canvas, dice: &mut Dice) {
    let center = [dice.between(80, 920), dice.between(80, 920)];
    let radius = dice.between(60, 100);
    puff(canvas, center, radius, faint(dice), 110);
}

/// A disc that fades towards its border; place and radius in thousandths of the side.
fn puff(canvas: &mut Canvas, center: [i32; 2], radius: i32, colour: Rgb, strength: i32) {
    let side = canvas.side as i32;
    // From here on in 1/16 pixel.
    let [x, y, radius] = [center[0], center[1], radius].map(|c| c * side * 16 / 1000);
    let pixels =
        |middle: i32| ((middle - radius) / 16).max(0)..((middle + radius) / 16 + 1).min(side);
    for row in pixels(y) {
        for column in pixels(x) {
            let [dx, dy] = [column * 16 + 8 - x, row * 16 + 8 - y];
            let inside = radius * radius - dx * dx - dy * dy;
            if inside > 0 {
                let share = i64::from(strength) * i64::from(inside) / i64::from(radius * radius);
                mix(
                    &mut canvas.image.get_pixel_mut(column as u32, row as u32).0,
                    colour,
                    share as u8,
                );
            }
        }
    }
}

/// A thin line from one side of the image to the other.
pub(super) fn line(canvas: &mut Canvas, dice: &mut Dice) {
    let side = canvas.side as i32;
    // Where the line starts and ends, and half its thickness, in 1/256 pixel.
    let [from, to] = [dice.between(0, 1000), dice.between(0, 1000)].map(|c| c * side * 256 / 1000);
    let half = side * 256 / 128;
    let flat = dice.chance(0.5);
    let colour = faint(dice);
    for along in 0..side {
        let middle = from + (to - from) / side * along;
        let [first, last] = [middle - half, middle + half];
        for across in (first / 256).max(0)..(last / 256 + 1).min(side) {
            let covered = last.min(across * 256 + 256) - first.max(across * 256);
            let (x, y) = if flat {
                (along, across)
            } else {
                (across, along)
            };
            let share = (covered.clamp(0, 256) * 90 / 256) as u8;
            mix(
                &mut canvas.image.get_pixel_mut(x as u32, y as u32).0,
                colour,
                share,
            );
        }
    }
}
