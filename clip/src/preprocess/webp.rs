//! The sizes that the frames of a WebP file claim, read without decoding them.

/// Width and height of every frame. A file that is damaged before its frames has none.
///
/// RIFF container: chunks of a name, a length and content, padded to even length. `ANMF`, a frame of an animation, holds
/// chunks itself behind 16 bytes.
pub(super) fn frames(file: &[u8]) -> Vec<[u32; 2]> {
    let mut found = Vec::new();
    collect(file.get(12..).unwrap_or_default(), true, &mut found);
    found
}

/// Frames of an animation stand at the top only: one inside another, a thousand deep, would exhaust the stack.
fn collect(mut chunks: &[u8], top: bool, found: &mut Vec<[u32; 2]>) {
    while let Some((header, rest)) = chunks.split_at_checked(8) {
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let content = &rest[..len.min(rest.len())];
        match &header[..4] {
            b"VP8 " => found.extend(lossy(content)),
            b"VP8L" => found.extend(lossless(content)),
            b"ANMF" if top => collect(content.get(16..).unwrap_or_default(), false, found),
            _ => {}
        }
        chunks = rest.get(len + len % 2..).unwrap_or_default();
    }
}

/// RFC 6386, 9.1: three bytes of a frame tag, a start code, two sides of 14 bits.
fn lossy(frame: &[u8]) -> Option<[u32; 2]> {
    let sides = frame.get(6..10)?;
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Some([side(sides[0], sides[1]), side(sides[2], sides[3])])
}

/// RFC 9649, 3.4: a signature, two sides less one of 14 bits.
fn lossless(frame: &[u8]) -> Option<[u32; 2]> {
    let bits = u32::from_le_bytes(frame.get(1..5)?.try_into().ok()?);
    Some([(bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1])
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::fixture};
    use super::*;

    #[test]
    fn sizes_are_those_of_the_decoder() {
        let mut seen = 0;
        for entry in std::fs::read_dir(fixture("")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "webp") {
                let bytes = std::fs::read(&path).unwrap();
                let (width, height) = decode(&bytes).unwrap().dimensions();
                assert_eq!(frames(&bytes)[0], [width, height], "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen >= 2, "{seen}");
    }

    #[test]
    fn lengths_that_lead_past_the_end_end_the_search() {
        let mut file = b"RIFF....WEBP".to_vec();
        file.extend(b"ANMF\xff\xff\xff\xff");
        assert!(frames(&file).is_empty());
        file.extend([0; 16]);
        file.extend(b"VP8L\xff\xff\xff\x7f\x2f\x01\0\0\0");
        assert_eq!(frames(&file), [[2, 1]]);
        assert!(frames(b"RIFF").is_empty());
    }

    #[test]
    fn frames_inside_frames_do_not_exhaust_the_stack() {
        let mut file = b"RIFF....WEBP".to_vec();
        for _ in 0..200_000 {
            file.extend(b"ANMF\xff\xff\xff\x7f");
            file.extend([0; 16]);
        }
        assert!(frames(&file).is_empty());
    }
}
