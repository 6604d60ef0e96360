//! The order of the 256 bytes in CLIP's vocabulary, and the printable characters that its files
//! write for them.

use std::sync::OnceLock;

/// Bytes in the order of their ids: first those that print as themselves in Latin-1, then the
/// others.
pub(super) fn byte_order() -> [u8; 256] {
    let prints = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut order: Vec<u8> = (0..=255).filter(prints).collect();
    order.extend((0..=255).filter(|b| !prints(b)));
    order.try_into().expect("every byte once")
}

/// The printable character that stands for a byte; those that do not print get U+0100 and on.
pub(super) fn symbol(byte: u8, id: usize) -> char {
    const PRINTING: usize = 188;
    if id < PRINTING {
        byte as char
    } else {
        char::from_u32((0x100 + id - PRINTING) as u32).unwrap_or('\0')
    }
}

/// Symbol of every byte.
pub(super) fn symbols() -> [char; 256] {
    let mut out = ['\0'; 256];
    for (id, byte) in byte_order().into_iter().enumerate() {
        out[byte as usize] = symbol(byte, id);
    }
    out
}

/// Id of a byte inside a word; 256 more at its end.
pub(super) fn byte_id(byte: u8) -> u32 {
    static IDS: OnceLock<[u32; 256]> = OnceLock::new();
    IDS.get_or_init(|| {
        let mut ids = [0; 256];
        for (id, byte) in (0..).zip(byte_order()) {
            ids[byte as usize] = id;
        }
        ids
    })[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_id_and_one_printable_symbol() {
        let mut ids: Vec<u32> = (0..=255).map(byte_id).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..256));
        assert_eq!(
            symbols()
                .iter()
                .collect::<std::collections::HashSet<_>>()
                .len(),
            256
        );
        assert_eq!(
            (
                symbols()[b'a' as usize],
                symbols()[b' ' as usize],
                byte_id(b'!')
            ),
            ('a', 'Ġ', 0)
        );
    }
}
