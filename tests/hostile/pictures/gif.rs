//! GIF: frames of indices.

use super::{fixture, side};
use crate::Dice;

pub fn make(dice: &mut Dice) -> Vec<u8> {
    if dice.below(4) == 0 {
        let name = *dice.pick(&["animated.gif", "palette.gif", "transparent.gif"]);
        return fixture(name);
    }
    let mut file = b"GIF89a".to_vec();
    let short = |dice: &mut Dice, usual: u64| (side(dice, usual, 0xffff) as u16).to_le_bytes();
    file.extend(short(dice, 4));
    file.extend(short(dice, 4));
    let flags = match dice.bad() {
        true => 0x00,
        false => *dice.pick(&[0x80, 0x80, 0x87]),
    };
    file.extend([flags, dice.or_number(0) as u8, 0]);
    if flags & 0x80 != 0 {
        let palette = 3 << ((flags & 7) + 1);
        file.extend(dice.noise(palette));
    }
    for _ in 0..1 + dice.below(3) {
        if dice.bad() {
            let label = *dice.pick(&[0xf9, 0xff, 0xfe, 0x01, 0x77]);
            file.extend([b'!', label, 4]);
            file.extend(dice.noise(4));
            file.push(u8::from(dice.bad()));
        }
        file.push(b',');
        for usual in [0, 0, 4, 4] {
            file.extend(short(dice, usual));
        }
        file.push(*dice.pick(&[0, 0, 0x40, 0x87]));
        if file.last() == Some(&0x87) {
            file.extend(dice.noise(768));
        }
        file.push(dice.or_number(2) as u8);
        let codes = codes(16);
        for part in codes.chunks(1 + dice.below(codes.len())) {
            file.push(dice.or_number(part.len() as u64) as u8);
            file.extend(match dice.bad() {
                true => dice.noise(part.len()),
                false => part.to_vec(),
            });
        }
        file.push(0);
    }
    file.push(b';');
    file
}

/// Pixels of the indices 0 and 1 in codes of three bits: before each the one that clears the table, so that none is longer.
fn codes(pixels: u32) -> Vec<u8> {
    const CLEAR: u32 = 4;
    const END: u32 = 5;
    let codes = (0..pixels).flat_map(|pixel| [CLEAR, pixel % 2]);
    let bits = codes
        .chain([END])
        .flat_map(|code| (0..3).map(move |bit| code >> bit & 1 == 1));
    let bits: Vec<bool> = bits.collect();
    let byte = |bits: &[bool]| {
        bits.iter()
            .rev()
            .fold(0, |byte, bit| byte << 1 | u8::from(*bit))
    };
    bits.chunks(8).map(byte).collect()
}
