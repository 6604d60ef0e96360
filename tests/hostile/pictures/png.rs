//! PNG: chunks, checked and compressed.

use super::{packed, side};
use crate::Dice;
use flate2::Crc;

/// Bits and kinds of colour that go together.
const KINDS: &[(u8, u8)] = &[
    (1, 0),
    (2, 0),
    (4, 0),
    (8, 0),
    (16, 0),
    (8, 2),
    (16, 2),
    (1, 3),
    (8, 3),
    (8, 4),
    (8, 6),
    (16, 6),
];

pub fn make(dice: &mut Dice) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |dice: &mut Dice, name: &[u8; 4], content: &[u8]| {
        let length = dice.or_number(content.len() as u64) as u32;
        file.extend(length.to_be_bytes());
        file.extend(name);
        file.extend(content);
        let mut crc = Crc::new();
        crc.update(name);
        crc.update(content);
        file.extend(crc.sum().to_be_bytes());
    };
    let usual = 1 + dice.below(40) as u64;
    let (width, height) = (
        side(dice, usual, u64::MAX) as u32,
        side(dice, 9, u64::MAX) as u32,
    );
    let (mut depth, mut colour) = *dice.pick(KINDS);
    if dice.bad() {
        (depth, colour) = (
            *dice.pick(&[0, 1, 2, 3, 4, 8, 16, 32]),
            *dice.pick(&[0, 1, 2, 3, 4, 5, 6, 7]),
        );
    }
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend([depth, colour, 0, 0, u8::from(dice.bad())]);
    chunk(dice, b"IHDR", &head);
    if colour == 3 || dice.bad() {
        let entries = match dice.bad() {
            true => *dice.pick(&[3, 30, 0, 4, 771]),
            false => 768,
        };
        let palette = dice.noise(entries);
        chunk(dice, b"PLTE", &palette);
    }
    if dice.bad() {
        let zeros = packed(&vec![0; 40 << 20]);
        let (name, before) = *dice.pick(&[
            (b"iCCP", &b"x\0\0"[..]),
            (b"zTXt", &b"x\0\0"[..]),
            (b"iTXt", &b"x\0\x01\0\0\0"[..]),
        ]);
        chunk(dice, name, &[before, &zeros].concat());
    }
    if dice.bad() {
        let noise = dice.below(40);
        let noise = dice.noise(noise);
        let name = *dice.pick(&[
            b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"bKGD", b"pHYs", b"eXIf", b"acTL", b"fcTL",
            b"fdAT", b"abcd", b"ABCD",
        ]);
        chunk(dice, name, &noise);
    }
    let samples = match colour {
        2 => 3,
        4 => 2,
        6 => 4,
        _ => 1,
    };
    let row = (usual as usize * samples * usize::from(depth)).div_ceil(8) + 1;
    let rows = match dice.bad() {
        true => *dice.pick(&[0, 1, 4000]),
        false => 9,
    };
    let mut pixels = vec![0; row * rows];
    if dice.bad() {
        pixels.iter_mut().for_each(|byte| *byte = 9); // no filter
    }
    let data = packed(&pixels);
    for part in data.chunks(dice.below(data.len()) + 1) {
        chunk(dice, b"IDAT", part);
    }
    if !dice.bad() {
        chunk(dice, b"IEND", b"");
    }
    file
}
