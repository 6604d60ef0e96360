//! NumPy's arrays.

use crate::{Dice, Said};
use clip_burn::data::npy::parse;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let shape = vec![3; dice.below(4)];
    let bytes = dice.evenly(|dice| npy(dice, &shape));
    said.write("a.npy", &bytes);
    if let Some(array) = said.hear_of_bytes(parse(&bytes)) {
        array.marked();
    }
}

/// Types of numbers, each with its one.
const TYPES: &[(&str, &[u8])] = &[
    ("<f4", &[0, 0, 0x80, 0x3f]),
    ("<f2", &[0, 0x3c]),
    ("<f8", &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
    ("<i8", &[1, 0, 0, 0, 0, 0, 0, 0]),
    ("<u8", &[1, 0, 0, 0, 0, 0, 0, 0]),
    ("<i4", &[1, 0, 0, 0]),
    ("|b1", &[1]),
    ("|u1", &[1]),
    ("|i1", &[1]),
];

/// Zeros and ones in a shape, as `numpy.save` writes them.
pub fn npy(dice: &mut Dice, shape: &[u64]) -> Vec<u8> {
    let (kind, one) = *dice.pick(TYPES);
    let numbers = shape.iter().product::<u64>() as usize;
    let zero = vec![0; one.len()];
    let number = |dice: &mut Dice| if dice.below(2) == 0 { one } else { &zero }.to_vec();
    let values: Vec<_> = (0..numbers).map(|_| number(dice)).collect();
    let values = match dice.bad() {
        true => dice.noise(numbers * one.len()),
        false => values.concat(),
    };
    let sides: Vec<String> = shape
        .iter()
        .map(|side| {
            let side = dice.or_number(*side).to_string();
            dice.or_text(&side) + ","
        })
        .collect();
    let (shape, order) = (sides.join(" "), if dice.bad() { "True" } else { "False" });
    let kind = match dice.bad() {
        true => (*dice.pick(&[">f4", "<c8", "O", "<U7", "<M8[ns]", "|V8", "<f16"])).to_string(),
        false => dice.or_text(kind),
    };
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({shape}), }}");
    if dice.bad() {
        header = header.repeat(2);
    }
    if dice.bad() {
        header = header.replace('\'', "\"");
    }
    header += "\n";
    let version = match dice.bad() {
        true => *dice.pick(&[0, 4, 255]),
        false => *dice.pick(&[1, 1, 2, 3]),
    };
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    let length = dice.or_number(header.len() as u64);
    match version {
        1 => file.extend((length as u16).to_le_bytes()),
        _ => file.extend((length as u32).to_le_bytes()),
    }
    file.extend(header.as_bytes());
    file.extend(values);
    dice.mangled(file)
}
