//! BMP, of all ages.

use super::side;
use crate::Dice;

pub fn make(dice: &mut Dice) -> Vec<u8> {
    let bits = match dice.bad() {
        true => *dice.pick(&[0u16, 2, 3, 64, u16::MAX]),
        false => *dice.pick(&[1, 4, 8, 16, 24, 32]),
    };
    let size = match dice.bad() {
        true => *dice.pick(&[0u32, 12, 16, 64, u32::MAX]),
        false => *dice.pick(&[40, 40, 52, 56, 108, 124]),
    };
    let (width, height) = (side(dice, 9, u64::MAX), side(dice, 7, u64::MAX));
    let mut info = size.to_le_bytes().to_vec();
    if size == 12 {
        info.extend((width as u16).to_le_bytes());
        info.extend((height as u16).to_le_bytes());
    } else {
        info.extend((width as u32).to_le_bytes());
        let height = if dice.bad() {
            (height as i32).wrapping_neg()
        } else {
            height as i32
        };
        info.extend(height.to_le_bytes());
    }
    info.extend(1u16.to_le_bytes());
    info.extend(bits.to_le_bytes());
    let compression = match dice.bad() {
        true => dice.below(8) as u32,
        false => 0,
    };
    info.extend(compression.to_le_bytes());
    for _ in 0..3 {
        info.extend((dice.or_number(0) as u32).to_le_bytes());
    }
    info.extend((dice.or_number(0) as u32).to_le_bytes()); // colours
    info.extend([0; 4]);
    info.extend(dice.noise(84));
    info.truncate(size.clamp(12, 124) as usize);
    let palette = match bits {
        0..=8 => 4 << bits.min(8),
        _ => 0,
    };
    info.extend(dice.noise(palette));
    let offset = dice.or_number(14 + info.len() as u64) as u32;
    let mut file = b"BM".to_vec();
    file.extend((dice.or_number(1000) as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(offset.to_le_bytes());
    file.extend(info);
    let body = match dice.bad() {
        true => *dice.pick(&[0, 10, 5000]),
        false => 9 * 7 * 4,
    };
    file.extend(dice.noise(body));
    file
}
