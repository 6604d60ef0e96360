//! JPEG: segments of photographs.

use super::{fixture, side};
use crate::Dice;

/// A photograph's segments, some of them changed, twice, or between others.
pub fn make(dice: &mut Dice) -> Vec<u8> {
    let name = *dice.pick(&[
        "420.jpg",
        "444.jpg",
        "progressive.jpg",
        "restart.jpg",
        "cmyk.jpg",
        "gray.jpg",
        "rotated_by_exif.jpg",
        "one_pixel.jpg",
    ]);
    let whole = fixture(name);
    let (mut segments, mut at) = (Vec::new(), 2);
    while at + 4 <= whole.len() && whole[at] == 0xff {
        let len = usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
        let mut end = at + 2 + len;
        if whole[at + 1] == 0xda {
            let next =
                |at: &usize| whole[*at] == 0xff && !matches!(whole[*at + 1], 0 | 0xd0..=0xd7);
            end = (end..whole.len() - 1).find(next).unwrap_or(whole.len());
        }
        segments.push(whole[at..end].to_vec());
        at = end;
    }
    let mut file = b"\xff\xd8".to_vec();
    for mut segment in segments {
        if dice.bad() {
            match (segment[1], dice.below(4)) {
                (0xc0..=0xc2, 0..=1) => {
                    let (height, width) =
                        (side(dice, 9, 0xffff) as u16, side(dice, 9, 0xffff) as u16);
                    segment[5..7].copy_from_slice(&height.to_be_bytes());
                    segment[7..9].copy_from_slice(&width.to_be_bytes());
                }
                (0xda, 0..=1) => {
                    let again = segment.clone();
                    (0..1 + dice.below(300)).for_each(|_| segment.extend(&again));
                }
                (_, 2) => {
                    let length = dice.number() as u16;
                    segment[2..4].copy_from_slice(&length.to_be_bytes());
                }
                (_, 3) => {
                    let again = segment.clone();
                    segment.extend(again);
                }
                _ => {
                    let at = 4 + dice.below(segment.len().clamp(5, 30) - 4);
                    segment[at] = *dice.pick(&[0, 1, 2, 4, 0x11, 0x44, 0x7f, 0xff]);
                }
            }
        }
        if !dice.bad() {
            file.extend(segment);
        }
    }
    file.extend(b"\xff\xd9");
    file
}
