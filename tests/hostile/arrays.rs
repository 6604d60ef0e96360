//! NumPy's arrays.

use crate::{Dice, Said};
use clip_burn::data::npy::parse;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let bytes = npy(dice);
    said.write("a.npy", &bytes);
    if let Some(array) = said.hear_of_bytes(parse(&bytes)) {
        array.marked();
    }
}

pub fn npy(dice: &mut Dice) -> Vec<u8> {
    let (kind, size) = *dice.pick(&[
        ("<f4", 4),
        ("<f2", 2),
        ("<f8", 8),
        ("<i8", 8),
        ("<u8", 8),
        ("<i4", 4),
        ("|b1", 1),
        ("|u1", 1),
        ("|i1", 1),
        (">f4", 4),
        ("<c8", 8),
        ("O", 8),
    ]);
    let sides: Vec<u64> = (0..dice.below(4)).map(|_| dice.or_number(3)).collect();
    let sides: Vec<String> = sides
        .iter()
        .map(|side| {
            let side = side.to_string();
            dice.or_text(&side)
        })
        .collect();
    let (shape, order) = (sides.join(", "), if dice.bad() { "True" } else { "False" });
    let kind = dice.or_text(kind);
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({shape},), }}");
    if dice.bad() {
        header = header.repeat(2);
    }
    if dice.bad() {
        header = header.replace('\'', "\"");
    }
    header += "\n";
    let version = *dice.pick(&[1, 1, 1, 2, 3, 0, 4, 255]);
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    let length = dice.or_number(header.len() as u64);
    match version {
        1 => file.extend((length as u16).to_le_bytes()),
        _ => file.extend((length as u32).to_le_bytes()),
    }
    file.extend(header.as_bytes());
    let numbers = 3usize.pow(sides.len() as u32);
    file.extend(dice.noise(numbers * size));
    dice.mangled(file)
}
