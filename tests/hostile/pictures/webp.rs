//! WebP: chunks around frames of others.

use super::{fixture, side};
use crate::Dice;

pub fn make(dice: &mut Dice) -> Vec<u8> {
    let riff = |chunk: &[u8; 4], content: &[u8], length: u32| {
        let mut bytes = chunk.to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(content);
        bytes.extend(vec![0; content.len() % 2]);
        bytes
    };
    let name = *dice.pick(&["lossy.webp", "lossless.webp", "lossless_alpha.webp"]);
    let mut frame = fixture(name)[12..].to_vec();
    if dice.bad() {
        let at = frame.len().min(8 + dice.below(12));
        frame[at] = dice.number() as u8;
    }
    let three =
        |dice: &mut Dice, usual: u64| side(dice, usual, 0xff_ffff).to_le_bytes()[..3].to_vec();
    let content = match dice.below(3) {
        0 => frame,
        1 => {
            let mut head = vec![
                if dice.bad() {
                    *dice.pick(&[0x3e, 0])
                } else {
                    0x02
                },
                0,
                0,
                0,
            ];
            head.extend(three(dice, 22));
            head.extend(three(dice, 18));
            let mut chunks = riff(b"VP8X", &head, dice.or_number(10) as u32);
            chunks.extend(riff(b"ANIM", &[0; 6], dice.or_number(6) as u32));
            let mut inside = frame;
            let depth = if dice.bad() { 30_000 } else { 1 };
            // Lengths of those that hold others need not be true.
            let mut nested = Vec::new();
            for _ in 0..depth {
                nested.extend(b"ANMF");
                nested.extend((dice.or_number(1 << 20) as u32).to_le_bytes());
                for usual in [0, 0, 22, 18, 1] {
                    nested.extend(three(dice, usual));
                }
                nested.push(0);
            }
            nested.append(&mut inside);
            if depth == 1 {
                let len = nested.len() as u32 - 8;
                nested[4..8].copy_from_slice(&len.to_le_bytes());
            }
            chunks.extend(nested);
            chunks
        }
        _ => {
            let mut head = vec![
                if dice.bad() {
                    *dice.pick(&[0x20, 0x0c, 0x02])
                } else {
                    0x10
                },
                0,
                0,
                0,
            ];
            head.extend(three(dice, 22));
            head.extend(three(dice, 18));
            let mut chunks = riff(b"VP8X", &head, 10);
            if dice.bad() {
                let noise = dice.noise(30);
                let name = *dice.pick(&[b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"abcd"]);
                chunks.extend(riff(name, &noise, dice.or_number(30) as u32));
            }
            chunks.extend(frame);
            chunks
        }
    };
    let mut file = b"RIFF".to_vec();
    file.extend((dice.or_number(content.len() as u64 + 4) as u32).to_le_bytes());
    file.extend(b"WEBP");
    file.extend(content);
    file
}
