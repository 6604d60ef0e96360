//! Images of the five formats.

use crate::{Dice, Said};
use clip_burn::clip::preprocess::{
    Augment, AugmentConfig, Preprocess, PreprocessConfig, decode, decode_with_limit,
};
use flate2::{Compression, Crc, write::ZlibEncoder};
use rand::SeedableRng;
use std::io::Write;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let image = any(dice);
    said.write("image.bin", &image);
    let image = match dice.below(8) {
        0 => said.hear_of_bytes(decode(&image)),
        _ => said.hear_of_bytes(decode_with_limit(&image, 2_000_000)),
    };
    let Some(image) = image.filter(|image| image.width().max(image.height()) < 20_000) else {
        return;
    };
    Preprocess::new(PreprocessConfig::default()).apply(&image);
    let augment = Augment::new(AugmentConfig::default(), [32, 48]).expect("the default is sound");
    augment.apply(&image, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
}

/// A picture of one pixel, as tables have it.
pub const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC";

/// A small image that is most likely readable, for formats that hold images.
pub fn small() -> Vec<u8> {
    fixture("one_pixel.png")
}

fn any(dice: &mut Dice) -> Vec<u8> {
    let image = match dice.below(5) {
        0 => png(dice),
        1 => bmp(dice),
        2 => gif(dice),
        3 => webp(dice),
        _ => jpeg(dice),
    };
    dice.mangled(image)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(tests::fixture("pixels").join(name)).expect("a fixture")
}

fn side(dice: &mut Dice, usual: u64, most: u64) -> u64 {
    match dice.bad() {
        true => {
            *dice.pick(&[
                0,
                1,
                2,
                255,
                256,
                16_383,
                16_384,
                65_535,
                65_536,
                (1 << 24) - 1,
                (1 << 31) - 1,
                1 << 31,
                (1 << 32) - 1,
            ]) & most
        }
        false => usual,
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn png(dice: &mut Dice) -> Vec<u8> {
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
    let depth = *dice.pick(&[1, 2, 4, 8, 8, 8, 16, 3]);
    let colour = *dice.pick(&[0, 2, 2, 3, 4, 6, 5]);
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend([depth, colour, 0, 0, u8::from(dice.bad())]);
    chunk(dice, b"IHDR", &head);
    if colour == 3 || dice.bad() {
        let entries = *dice.pick(&[3, 30, 768, 0, 4, 771]);
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
    let rows = *dice.pick(&[9, 9, 9, 0, 1, 4000]);
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

fn bmp(dice: &mut Dice) -> Vec<u8> {
    let bits = *dice.pick(&[1u16, 4, 8, 16, 24, 32, 24, 0, 2, 64]);
    let size = *dice.pick(&[40u32, 40, 40, 12, 52, 56, 108, 124, 16, 64, 0]);
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
    info.truncate(size.max(16) as usize);
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
    let body = *dice.pick(&[9 * 7 * 4 + 40, 0, 10, 5000]);
    file.extend(dice.noise(body));
    file
}

fn gif(dice: &mut Dice) -> Vec<u8> {
    if dice.below(4) == 0 {
        let name = *dice.pick(&["animated.gif", "palette.gif", "transparent.gif"]);
        return fixture(name);
    }
    let mut file = b"GIF89a".to_vec();
    let short = |dice: &mut Dice, usual: u64| (side(dice, usual, 0xffff) as u16).to_le_bytes();
    file.extend(short(dice, 4));
    file.extend(short(dice, 4));
    let flags = *dice.pick(&[0x80, 0x80, 0x87, 0x00]);
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
        for _ in 0..dice.below(4) {
            let len = dice.or_number(3) as u8;
            file.push(len);
            file.extend(dice.noise(usize::from(len.min(9))));
        }
        file.push(0);
    }
    file.push(b';');
    file
}

fn webp(dice: &mut Dice) -> Vec<u8> {
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
            let mut head = vec![*dice.pick(&[0x02, 0x12, 0x3e, 0x00]), 0, 0, 0];
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
            let mut head = vec![*dice.pick(&[0x10, 0x20, 0x00, 0x0c]), 0, 0, 0];
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

/// A photograph's segments, some of them changed, twice, or between others.
fn jpeg(dice: &mut Dice) -> Vec<u8> {
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
