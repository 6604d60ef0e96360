//! Zip archives as PyTorch writes them.

use crate::Dice;

/// Where a storage begins: PyTorch fills the header before it up.
const ALIGNMENT: usize = 64;

/// Stored entries with a directory behind them, any field of which may lie.
pub fn zip(dice: &mut Dice, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let name = dice.or_text(name);
        let name = &name.as_bytes()[..name.len().min(65_535)];
        let start = file.len() as u64;
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let flags = if dice.bad() { dice.number() as u16 } else { 0 };
        let method = if dice.bad() {
            *dice.pick(&[8u16, 12, 93, 99])
        } else {
            0
        };
        let mut common = Vec::new();
        common.extend(20u16.to_le_bytes());
        common.extend(flags.to_le_bytes());
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.sum().to_le_bytes());
        common.extend((dice.or_number(content.len() as u64) as u32).to_le_bytes());
        common.extend((dice.or_number(content.len() as u64) as u32).to_le_bytes());
        common.extend((dice.or_number(name.len() as u64) as u16).to_le_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        let begin = file.len() + 2 + name.len() + 4;
        let padding = begin.next_multiple_of(ALIGNMENT) - begin;
        file.extend((dice.or_number(4 + padding as u64) as u16).to_le_bytes());
        file.extend(name);
        file.extend(b"FB");
        file.extend((padding as u16).to_le_bytes());
        file.extend(std::iter::repeat_n(b'Z', padding));
        file.extend(content);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        let extra = if dice.bad() {
            let sizes = [dice.number(), dice.number(), dice.number()];
            let sizes = sizes.iter().flat_map(|size| size.to_le_bytes());
            [vec![1, 0, 24, 0], sizes.collect()].concat()
        } else {
            Vec::new()
        };
        directory.extend((extra.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend((dice.or_number(start) as u32).to_le_bytes());
        directory.extend(name);
        directory.extend(extra);
    }
    let start = dice.or_number(file.len() as u64);
    let count = entries.len() as u64;
    if dice.bad() {
        let at = (file.len() + directory.len()) as u64;
        directory.extend(b"PK\x06\x06");
        for number in [44, 45, 0, count, count, 0, start] {
            directory.extend(dice.or_number(number).to_le_bytes());
        }
        directory.extend(b"PK\x06\x07\0\0\0\0");
        directory.extend(dice.or_number(at).to_le_bytes());
        directory.extend(1u32.to_le_bytes());
    }
    let size = dice.or_number(directory.len() as u64) as u32;
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend((dice.or_number(count) as u16).to_le_bytes());
    end.extend((dice.or_number(count) as u16).to_le_bytes());
    end.extend(size.to_le_bytes());
    end.extend((start as u32).to_le_bytes());
    end.extend((dice.or_number(0) as u16).to_le_bytes());
    // Each of many ends may have to be tried.
    let (directories, ends) = match dice.bad() {
        true => (1 << dice.below(14), 1 << dice.below(16)),
        false => (1, 1),
    };
    file.extend(directory.repeat(directories));
    file.extend(end.repeat(ends));
    file
}
