//! Images of the five formats.

mod bmp;
mod gif;
mod jpeg;
mod png;
mod webp;

use crate::{Dice, Said};
use clip_burn::clip::preprocess::{
    Augment, AugmentConfig, Preprocess, PreprocessConfig, decode, decode_with_limit,
};
use flate2::{Compression, write::ZlibEncoder};
use rand::SeedableRng;
use std::io::Write;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let image = dice.evenly(any);
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
        0 => png::make(dice),
        1 => bmp::make(dice),
        2 => gif::make(dice),
        3 => webp::make(dice),
        _ => jpeg::make(dice),
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
